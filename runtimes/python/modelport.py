"""The module `modelport`, which a model.py may import.

Programs get another one, with the same names and more: modelport/__init__.py at the top.
"""

from typing import Any

from runtimes.contract import CallFailed, InvalidInput, Request

__all__ = ["CallFailed", "InvalidInput", "Request"]


def __getattr__(name: str) -> Any:
    if name == "load":
        raise AttributeError("a model cannot load others; it calls those of its gateway with context.call")
    raise AttributeError("module 'modelport' has no attribute '%s' in a worker" % name)
