"""Imports libraries without what they import but these processes never use.

docs/performance.md ("Memory") has what each takes. tests/unit/test_start_imports.py fails if one is imported again.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class Stub(ModuleType):
    """Stands in for a module during imports. Constants are 0, other attributes are classes that may serve as errors."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0 if name.isupper() else type(name, (Exception,), {})


@contextmanager
def replaced(modules: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Until this context ends, imports of these modules get the given ones, or fail for None.

    Modules that have been imported before are not replaced.
    """
    names = [name for name in modules if name not in sys.modules]
    sys.modules.update({name: modules[name] for name in names})  # type: ignore[misc]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def import_without_openssl() -> None:
    """Import what would import OpenSSL, but can do without it. Nothing in the gateway speaks TLS."""
    with _no_openssl():
        import asyncio  # noqa: F401
        import hashlib  # noqa: F401


def import_for_front() -> None:
    """The same for what fronts import. uvloop and uvicorn need the names in ssl.

    uvicorn also imports its command line, and the code that reads a configuration of logging. Fronts use neither.
    """
    import_without_openssl()
    with _no_openssl():
        import hmac  # noqa: F401
        import http.client  # noqa: F401
    with replaced({name: Stub(name) for name in ("ssl", "uvicorn.main", "logging.config")}):
        import uvicorn  # noqa: F401
        import uvloop  # noqa: F401


def _no_openssl() -> AbstractContextManager[None]:
    # Some distributions build Python without hash functions of its own.
    return replaced({"ssl": None, "_hashlib": None} if find_spec("_md5") else {"ssl": None})
