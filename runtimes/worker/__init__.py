"""The common part of every worker: one process, one thread, one model."""
