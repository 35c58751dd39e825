"""Maps the memory that a front shares: its arena, from which large inputs are read, and that for large results.

Both are files without a name, so the front sends their descriptors. What cannot be mapped goes through the socket.
"""

import mmap
import os
from typing import Dict, Optional, Sequence, Tuple

from runtimes.free_ranges import FreeRanges, whole_pages
from runtimes.layouts import ALIGNMENT
from runtimes.tensors import Buffer

# Smaller results go through the socket. With a lower threshold, keeping track of them costs more than the copies that
# are saved; with a higher one, more results are copied.
MIN_SHARED_BYTES = 1 << 18
# Free memory that an idle worker keeps for each front. What is above is returned to the system.
_RETAINED_BYTES = 1 << 22


def map_arena(descriptor: int, size: int) -> Optional[memoryview]:
    """Close the descriptor, and return the mapped arena, or None if it cannot be mapped.

    It stays mapped as long as anything refers to it.
    """
    try:
        with os.fdopen(descriptor, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ))
    except (OSError, ValueError) as error:
        print("inputs come through the socket: the front's memory cannot be mapped (%s)" % error)
        return None


def map_results(descriptor: int, size: int) -> "Optional[ResultMemory]":
    """Close the descriptor, and return the memory for results, or None if it cannot be mapped."""
    try:
        with os.fdopen(descriptor, "r+b", 0) as file:
            return ResultMemory(mmap.mmap(file.fileno(), size))
    except (OSError, ValueError) as error:
        print("results go through the socket: the front's memory cannot be mapped (%s)" % error)
        return None


class ResultMemory:
    """Where a worker writes large results for one front, which reads them there and then releases them."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._map = mapped
        self._whole = memoryview(mapped)
        self._free = FreeRanges(len(mapped))
        self._used: Dict[int, int] = {}  # offset → length
        self._touched = 0  # no page above this offset has memory

    def put(self, buffers: Sequence[Buffer]) -> Optional[Tuple[int, int]]:
        """Write the bytes of tensors, each aligned; return offset and length, or None if they are small or do not fit.

        This is a result_frames.PutResults.
        """
        size = sum([len(buffer) + -len(buffer) % ALIGNMENT for buffer in buffers])
        if size < MIN_SHARED_BYTES:
            return None
        length = whole_pages(size)
        start = self._free.take(length)
        if start is None:
            return None
        self._used[start] = length
        self._touched = max(self._touched, start + length)
        position = start
        for buffer in buffers:
            self._whole[position : position + len(buffer)] = buffer
            position += len(buffer) + -len(buffer) % ALIGNMENT
        return start, size

    def release(self, offset: int) -> None:
        """The front no longer reads the results at this offset."""
        self._free.add(offset, self._used.pop(offset))

    def trim(self) -> None:
        """Return free memory to the system, if there is much of it. Call it while the worker is idle."""
        if self._touched <= _RETAINED_BYTES or not hasattr(mmap, "MADV_REMOVE"):  # which is new in Python 3.8
            return
        for offset, length in self._free.ranges:
            start, end = max(offset, _RETAINED_BYTES), min(offset + length, self._touched)
            if start < end:
                self._map.madvise(mmap.MADV_REMOVE, start, end - start)
        self._touched = max([_RETAINED_BYTES, *[offset + length for offset, length in self._used.items()]])
