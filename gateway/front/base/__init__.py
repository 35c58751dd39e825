"""The common part of all dialects."""
