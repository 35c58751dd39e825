"""The module `modelport`, which a model.py may import."""

from runtimes.contract import InvalidInput

__all__ = ["InvalidInput"]
