"""Keeps the workers running that the repository asks for: selection, policy, devices, worker processes."""
