"""Answers decoded requests: admission, validation, queues, connections to workers, retries, metrics."""
