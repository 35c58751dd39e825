"""A front's arena, mapped for reading: its large inputs are not sent but lie there.

The path leads through /proc to an open file of the front, which has no name of its own; the same
user may open it. Where the kernel refuses, everything comes through the socket.
"""

import mmap
from typing import Optional


def map_arena(path: str, size: int) -> Optional[memoryview]:
    """None where it cannot be had. It stays mapped as long as anything refers to it."""
    try:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ))
    except (OSError, ValueError) as error:
        print("inputs come through the socket: the front's memory cannot be mapped (%s)" % error)
        return None
