"""The parent process: fronts, models, ports, exports."""
