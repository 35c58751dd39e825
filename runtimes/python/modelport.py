"""The module `modelport`, which a model.py may import."""

from runtimes.contract import CallFailed, InvalidInput

__all__ = ["CallFailed", "InvalidInput"]
