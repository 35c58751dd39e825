"""What the figures of docs/performance.md come from. Each module runs by itself: `python -m benchmarks.overhead`."""
