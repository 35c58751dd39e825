"""The module `modelport`, which a model.py may import."""

from runtimes.contract import CallFailed, InvalidInput, Request

__all__ = ["CallFailed", "InvalidInput", "Request"]
