"""The figures of all processes, as Prometheus and Triton's statistics show them."""
