"""Memory that large bodies took, given back; and no walks of the garbage collector while they are read."""

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

# From so much more on than after the last time, it is worth a few milliseconds.
_WORTH_BYTES = 32 << 20


class _Pause:
    """How many read at the moment, and whether collections were on before the first."""

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
    """For reading a large document: it is millions of new objects, and the collector would walk them again and again.

    No cycle is among them: they go as soon as the document does.
    """
    _PAUSE.begin()
    try:
        yield
    finally:
        _PAUSE.end()


class Trimmer:
    """Gives free memory back to the system, which the C library keeps where something small lies behind it.

    `resident` tells the bytes that this process has; `trim` gives back.
    """

    def __init__(self, resident: Callable[[], int], trim: Callable[[], object]) -> None:
        self._resident, self._trim = resident, trim
        self._least = resident()

    def look(self) -> None:
        """To be called now and then, in a thread: both take milliseconds where there is much."""
        resident = self._resident()
        if resident > self._least + _WORTH_BYTES:
            self._trim()
            self._least = self._resident()
        else:
            self._least = min(self._least, resident)


def system_trimmer() -> Trimmer | None:
    """None where the C library has no such call: only glibc does."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    statm = Path("/proc/self/statm")
    if trim is None or not statm.exists():
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    return Trimmer(lambda: int(statm.read_bytes().split()[1]) * page, lambda: trim(0))
