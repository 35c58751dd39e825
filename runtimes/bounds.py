"""Bounds for runs whose inputs may make a model compute forever or fill the memory."""

import faulthandler
from contextlib import contextmanager
from typing import Iterator, Optional, Tuple

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


@contextmanager
def bounded(seconds: float, memory: int) -> Iterator[None]:
    """End this process if the body takes longer; let allocations fail in it that would take more memory than this.

    seconds  of wall-clock time
    memory   bytes beyond what the process has mapped so far. Not limited where /proc or setrlimit are missing
    """
    # In C, since the body may hold the interpreter's lock all the time.
    faulthandler.dump_traceback_later(seconds, exit=True)
    limits = _limit(memory)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        if limits:
            resource.setrlimit(resource.RLIMIT_AS, limits)


def _limit(memory: int) -> Optional[Tuple[int, int]]:
    """Return the limits as they were, or None if nothing was limited."""
    try:
        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = mapped + memory
        allowed = [each for each in (soft, hard, wanted) if each != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min(allowed), hard))
    except (OSError, AttributeError, ValueError):
        return None
    return soft, hard
