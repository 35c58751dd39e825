"""Which parts of a file in shared memory are free."""

import bisect
import mmap
from typing import List, Optional, Tuple

PAGE = mmap.PAGESIZE


def whole_pages(size: int) -> int:
    """Return a number of bytes, rounded up to whole pages; one page for 0."""
    return -(-max(size, 1) // PAGE) * PAGE


class FreeRanges:
    """ranges: offset and length of each, ascending and never adjacent. At first, everything is free."""

    def __init__(self, size: int) -> None:
        self.ranges: List[Tuple[int, int]] = [(0, size)]

    @property
    def total(self) -> int:
        return sum([length for _, length in self.ranges])

    def take(self, length: int) -> Optional[int]:
        """Return the lowest offset at which `length` bytes are free; None if there is none. They are not free then."""
        for index, (offset, available) in enumerate(self.ranges):
            if available >= length:
                rest = (offset + length, available - length)
                self.ranges[index : index + 1] = [rest] if rest[1] else []
                return offset
        return None

    def add(self, offset: int, length: int) -> None:
        """Make a range free."""
        ranges = self.ranges
        index = bisect.bisect(ranges, (offset, length))
        if index < len(ranges) and ranges[index][0] == offset + length:
            length += ranges.pop(index)[1]
        if index and sum(ranges[index - 1]) == offset:
            index -= 1
            previous, more = ranges.pop(index)
            offset, length = previous, length + more
        ranges.insert(index, (offset, length))
