"""Exports a served model to a file for phones, browsers and other runtimes, and verifies that it computes the same."""
