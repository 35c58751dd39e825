"""Returns the memory of large bodies to the system, and pauses garbage collection while they are decoded."""

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

# Memory is trimmed when it has grown by this much since the lowest value. Trimming takes milliseconds: a smaller value
# spends them more often, a larger one leaves more free memory with the process.
_MIN_GROWTH_BYTES = 32 << 20


class _Pause:
    """Counts nested pauses, and remembers whether collection was enabled before the first."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0
        self._was_enabled = False

    def begin(self) -> None:
        with self._lock:
            if not self._count:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count and self._was_enabled:
                gc.enable()


_PAUSE = _Pause()


@contextmanager
def collections_paused() -> Iterator[None]:
    """Pause garbage collection while a large document is decoded.

    A document may be millions of new objects, which the collector would traverse again and again. They contain no
    cycles, so reference counting frees them.
    """
    _PAUSE.begin()
    try:
        yield
    finally:
        _PAUSE.end()


class Trimmer:
    """Returns free memory to the system.

    The C library keeps free memory if an allocation above it is still in use. `resident` returns the resident bytes of
    this process, and `trim` returns free memory.
    """

    def __init__(self, resident: Callable[[], int], trim: Callable[[], object]) -> None:
        self._resident, self._trim = resident, trim
        self._lowest = resident()

    def check(self) -> None:
        """Trim if memory has grown. Call this regularly, in a thread, since trimming may take milliseconds."""
        resident = self._resident()
        if resident > self._lowest + _MIN_GROWTH_BYTES:
            self._trim()
            self._lowest = self._resident()
        else:
            self._lowest = min(self._lowest, resident)


def system_trimmer() -> Trimmer | None:
    """Return a trimmer that uses malloc_trim; None if the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    statm = Path("/proc/self/statm")
    if trim is None or not statm.exists():
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    return Trimmer(lambda: int(statm.read_bytes().split()[1]) * page, lambda: trim(0))
