"""Aggregates the metrics of all processes, for Prometheus and for Triton's statistics."""
