"""The HTTP transport: uvicorn's server and protocol, with hot requests answered where they are parsed."""

import sys
from types import ModuleType


def _import_uvicorn() -> None:
    """Import uvicorn without its command line, whose libraries would take 1.3 MiB of a front's memory.

    uvicorn.Server, uvicorn.main and uvicorn.run are None then; uvicorn.server and uvicorn.config are complete.
    """
    name = "uvicorn.main"
    if name in sys.modules:
        return
    sys.modules[name] = command_line = ModuleType(name)
    command_line.__dict__.update(Server=None, main=None, run=None)
    try:
        import uvicorn  # noqa: F401
    finally:
        del sys.modules[name]


_import_uvicorn()
