"""Hostile requests to every port of a gateway on this machine: see run.py."""
