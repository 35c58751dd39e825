"""Traces by OpenTelemetry, of sampled requests, made from their records after they were answered.

Only export.py imports OpenTelemetry's SDK, which a front without traces does not have in memory.
"""
