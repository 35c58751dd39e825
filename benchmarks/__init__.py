"""The benchmarks behind docs/performance.md. Each module is a program: `python -m benchmarks.overhead`."""
