"""Decides whether a front uses the compiled fast path. Without it, Python answers the same, with more CPU time."""

import importlib
import logging
from pathlib import Path
from types import ModuleType

log = logging.getLogger("front")

_NAME = "gateway.front.fast_path"
_SLOWER = (
    "the fast path %s, so requests take more CPU time: install a C compiler and Python's headers and then "
    "modelport again, or install modelport from a wheel"
)


def load(wanted: bool) -> ModuleType | None:
    """Return gateway.front.fast_path. If it is not wanted, return None; if it cannot be used, log why, too."""
    if not wanted:
        return None
    try:
        module = importlib.import_module(_NAME)
    except Exception as error:  # not only ImportError: one that was compiled from other sources may fail in any way
        was_compiled = not (isinstance(error, ImportError) and error.name == _NAME)
        log.warning(
            _SLOWER, f"cannot be loaded ({error})" if was_compiled else "was not compiled when modelport was installed"
        )
        return None
    if _is_older_than_its_source(Path(str(module.__file__))):
        log.warning(_SLOWER, "is older than its source")
        return None
    return module


def _is_older_than_its_source(compiled: Path) -> bool:
    """Only an editable installation has the source."""
    folder = compiled.parent
    sources = [*folder.glob("fast_path.pyx"), *folder.glob("compiled/*.pxi")]
    return any(source.stat().st_mtime > compiled.stat().st_mtime for source in sources)
