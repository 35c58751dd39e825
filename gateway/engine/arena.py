"""Memory that a front shares with the workers of one model: they read large inputs from it without a copy.

It is one anonymous file (memfd), as large as the front's limit of admitted bytes. The file is sparse: only pages
that were written take memory. A worker gets a descriptor that is open for reading, and maps it. A worker that cannot do
this gets all inputs through its socket.
"""

import mmap
import os
import weakref
from functools import partial
from threading import Lock

import numpy as np

from runtimes.free_ranges import FreeRanges, whole_pages
from runtimes.tensors import Buffer

# Smaller inputs go through the socket. With a lower threshold, allocating a block costs more than the copies that
# it saves; with a higher one, more inputs are copied.
MIN_ARENA_BYTES = 1 << 16

# The blocks in use, which keep their arenas, by arena and offset. weakref.finalize does the same with four times the
# calls, most of them with cold caches.
_blocks: "dict[tuple[int, int], weakref.ref[np.ndarray]]" = {}


class Arena:
    """Allocates blocks as arrays of bytes. A block is free when nothing refers to its array any more.

    size            bytes, rounded up to whole pages
    descriptor      of the file, open for reading
    retained_bytes  free pages below this offset keep their memory; those above it are returned, so that a peak does not
                    hold memory for good

    Blocks are never cleared: the code that allocates one must overwrite all bytes that are read later. They may be
    allocated on any thread, and released on any other.
    """

    def __init__(self, size: int) -> None:
        self.size = size = whole_pages(size)
        self.retained_bytes = size
        file = os.memfd_create("modelport-arena", os.MFD_CLOEXEC)
        try:
            os.ftruncate(file, size)
            self._map = mmap.mmap(file, size)  # has a descriptor of its own
            # For workers, which must not write to it: opened again without the right to write, and the mode keeps them
            # from doing the same in the other direction.
            self.descriptor = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self.descriptor)
            os.fchmod(file, 0o400)
        finally:
            os.close(file)
        self._whole = np.frombuffer(self._map, np.uint8)
        self._start = _address_of(self._whole)
        self._free = FreeRanges(size)
        # Released blocks that are not in _free yet. The garbage collector may release a block at any moment, on any
        # thread and in the middle of `allocate`, so a release never waits for the lock: who has it, or gets it next,
        # merges the block.
        self._released: list[tuple[int, int]] = []
        self._lock = Lock()  # for _free

    @property
    def free_bytes(self) -> int:
        return self._free.total

    def allocate(self, size: int) -> memoryview | None:
        """Return a block of `size` bytes at the lowest free offset; None if no free range is large enough."""
        length = whole_pages(size)
        with self._lock:
            if self._released:
                self._merge_all()
            offset = self._free.take(length)
        if self._released:
            self._merge_unless_busy()
        if offset is None:
            return None
        block = self._whole[offset : offset + size]
        _blocks[id(self), offset] = weakref.ref(block, partial(self._release, offset, length))
        return block.data

    def offset_of(self, data: Buffer) -> int | None:
        """Return the offset of these bytes in the arena; None if they are elsewhere."""
        offset = _address_of(np.frombuffer(data, np.uint8)) - self._start if len(data) else -1
        return offset if 0 <= offset < self.size else None

    def _release(self, offset: int, length: int, block: "weakref.ref[np.ndarray]") -> None:
        del _blocks[id(self), offset]
        self._released.append((offset, length))
        self._merge_unless_busy()

    def _merge_unless_busy(self) -> None:
        # Another thread that fails to get the lock meanwhile has left a block here: look again.
        while self._released and self._lock.acquire(blocking=False):
            try:
                self._merge_all()
            finally:
                self._lock.release()

    def _merge_all(self) -> None:
        while self._released:
            self._merge(*self._released.pop())

    def _merge(self, offset: int, length: int) -> None:
        if offset + length > self.retained_bytes:
            self._map.madvise(mmap.MADV_REMOVE, offset, length)
        self._free.add(offset, length)


def _address_of(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def is_supported() -> bool:
    """Whether the system has memfd and /proc. macOS has neither."""
    return hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")
