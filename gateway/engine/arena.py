"""A front's shared memory: large inputs are received into it, and workers read them where they lie.

One sparse file without a name, as large as what may be under way at a time; only what is touched
takes memory. A worker opens it through /proc, which the kernel allows to processes of one user, and
maps it for reading; where it cannot, bytes go through the socket as small ones always do.
"""

import bisect
import mmap
import os
import weakref
from threading import get_ident

import numpy as np

from runtimes.tensors import Buffer

# Smaller inputs go through the socket: that costs less than placing them.
LARGE = 1 << 16
_PAGE = mmap.PAGESIZE
# Memory below this is kept when it is free; above, it is given back, so that a peak does not last.
_KEPT = 1 << 26


class Arena:
    """Blocks are lent as arrays of bytes, each free again when nothing refers to it any more."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._file = os.memfd_create("modelport-arena", os.MFD_CLOEXEC)
        os.ftruncate(self._file, size)
        self._map = mmap.mmap(self._file, size)
        self._whole = np.frombuffer(self._map, np.uint8)
        self._start = self._whole.ctypes.data
        # Ascending and never adjacent: offset and length of what is free.
        self._free: list[tuple[int, int]] = [(0, size)]
        # A block may be found to be free at any moment, by the collector of cycles and on any thread: then it
        # waits here for the thread whose arena this is.
        self._returned: list[tuple[int, int]] = []
        self._busy = False
        self._owner = get_ident()

    @property
    def path(self) -> str:
        """What a worker opens."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    @property
    def free_bytes(self) -> int:
        return sum(length for _, length in self._free)

    def take(self, size: int) -> memoryview | None:
        """A block of so many bytes, from the lowest place that has room; None if there is none."""
        wanted = -(-max(size, 1) // _PAGE) * _PAGE
        self._put_back()
        self._busy = True
        offset = self._cut(wanted)
        self._put_back()
        if offset is None:
            return None
        block = self._whole[offset : offset + size]
        weakref.finalize(block, self._give_back, offset, wanted).atexit = False
        return block.data

    def _cut(self, wanted: int) -> int | None:
        for index, (offset, length) in enumerate(self._free):
            if length >= wanted:
                rest = (offset + wanted, length - wanted)
                self._free[index : index + 1] = [rest] if rest[1] else []
                return offset
        return None

    def place_of(self, data: Buffer) -> int | None:
        """Where these bytes lie in it; None if they do not."""
        offset = int(np.frombuffer(data, np.uint8).ctypes.data) - self._start if len(data) else -1
        return offset if 0 <= offset < self.size else None

    def _give_back(self, offset: int, length: int) -> None:
        self._returned.append((offset, length))
        if not self._busy and get_ident() == self._owner:
            self._put_back()

    def _put_back(self) -> None:
        self._busy = True
        while self._returned:
            self._join(*self._returned.pop())
        self._busy = False

    def _join(self, offset: int, length: int) -> None:
        if offset + length > _KEPT:
            self._map.madvise(mmap.MADV_REMOVE, offset, length)
        index = bisect.bisect(self._free, (offset, length))
        if index < len(self._free) and self._free[index][0] == offset + length:
            length += self._free.pop(index)[1]
        if index and sum(self._free[index - 1]) == offset:
            index -= 1
            before, more = self._free.pop(index)
            offset, length = before, length + more
        self._free.insert(index, (offset, length))


def open_arena(size: int) -> Arena | None:
    """None where the system has no such memory (macOS): everything goes through sockets there."""
    if not hasattr(os, "memfd_create") or not os.path.isdir("/proc/self/fd"):
        return None
    return Arena(-(-size // _PAGE) * _PAGE)
