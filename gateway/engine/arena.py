"""A front's shared memory: large inputs are received into it, and workers read them from it without a copy.

It is one anonymous file (memfd), as large as the front's limit of admitted bytes. The file is sparse: only pages
that were written take memory. A worker gets a descriptor that is open for reading, and maps it. A worker that cannot do
this gets all inputs through its socket.
"""

import bisect
import mmap
import os
import weakref
from threading import get_ident

import numpy as np

from runtimes.tensors import Buffer

# Smaller inputs go through the socket. With a lower threshold, allocating a block costs more than the copies that
# it saves; with a higher one, more inputs are copied.
MIN_ARENA_BYTES = 1 << 16
_PAGE = mmap.PAGESIZE
# Free pages below this offset keep their memory, so that blocks in regular use need no new pages from the kernel.
# Free pages above it are returned, so that a peak does not hold memory for good. A smaller value costs page faults;
# a larger one costs memory in each front.
_RETAINED_BYTES = 1 << 26


class Arena:
    """Allocates blocks as arrays of bytes. A block is free when nothing refers to its array any more.

    descriptor  of the file, open for reading

    Blocks are never cleared: the code that allocates one must overwrite all bytes that are read later.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._file = os.memfd_create("modelport-arena", os.MFD_CLOEXEC)
        os.ftruncate(self._file, size)
        self._map = mmap.mmap(self._file, size)
        # For workers, which must not write to it: opened again without the right to write, and the mode keeps them from
        # doing the same in the other direction.
        self.descriptor = os.open(f"/proc/self/fd/{self._file}", os.O_RDONLY | os.O_CLOEXEC)
        os.fchmod(self._file, 0o400)
        self._whole = np.frombuffer(self._map, np.uint8)
        self._start = self._whole.ctypes.data
        # Offset and length of each free range, ascending and never adjacent.
        self._free: list[tuple[int, int]] = [(0, size)]
        # Released blocks that are not in _free yet. The garbage collector may release a block at any moment, on any
        # thread and in the middle of `allocate`; only the arena's own thread changes _free, and never in two calls
        # at the same time.
        self._released: list[tuple[int, int]] = []
        self._busy = False
        self._owner = get_ident()

    @property
    def free_bytes(self) -> int:
        return sum(length for _, length in self._free)

    def allocate(self, size: int) -> memoryview | None:
        """Return a block of `size` bytes at the lowest free offset; None if no free range is large enough."""
        length = -(-max(size, 1) // _PAGE) * _PAGE
        self._merge_released()
        self._busy = True
        offset = self._first_fit(length)
        self._merge_released()
        if offset is None:
            return None
        block = self._whole[offset : offset + size]
        weakref.finalize(block, self._release, offset, length).atexit = False
        return block.data

    def _first_fit(self, length: int) -> int | None:
        for index, (offset, available) in enumerate(self._free):
            if available >= length:
                rest = (offset + length, available - length)
                self._free[index : index + 1] = [rest] if rest[1] else []
                return offset
        return None

    def offset_of(self, data: Buffer) -> int | None:
        """Return the offset of these bytes in the arena; None if they are elsewhere."""
        offset = int(np.frombuffer(data, np.uint8).ctypes.data) - self._start if len(data) else -1
        return offset if 0 <= offset < self.size else None

    def _release(self, offset: int, length: int) -> None:
        self._released.append((offset, length))
        if not self._busy and get_ident() == self._owner:
            self._merge_released()

    def _merge_released(self) -> None:
        self._busy = True
        while self._released:
            self._merge(*self._released.pop())
        self._busy = False

    def _merge(self, offset: int, length: int) -> None:
        if offset + length > _RETAINED_BYTES:
            self._map.madvise(mmap.MADV_REMOVE, offset, length)
        index = bisect.bisect(self._free, (offset, length))
        if index < len(self._free) and self._free[index][0] == offset + length:
            length += self._free.pop(index)[1]
        if index and sum(self._free[index - 1]) == offset:
            index -= 1
            previous, more = self._free.pop(index)
            offset, length = previous, length + more
        self._free.insert(index, (offset, length))


def open_arena(size: int) -> Arena | None:
    """Return an arena of `size` bytes, rounded up to pages; None on systems without memfd and /proc (macOS)."""
    if not hasattr(os, "memfd_create") or not os.path.isdir("/proc/self/fd"):
        return None
    return Arena(-(-size // _PAGE) * _PAGE)
