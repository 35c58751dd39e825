"""The parent process: it runs fronts, models and exports, and owns the ports."""
