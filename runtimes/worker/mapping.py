"""Maps a front's arena for reading. Large inputs are in the arena and are not sent through the socket.

The path leads through /proc to an open file of the front that has no name. A process of the same user may open it. If
the kernel refuses, all inputs come through the socket.
"""

import mmap
from typing import Optional


def map_arena(path: str, size: int) -> Optional[memoryview]:
    """Return the mapped arena, or None if it cannot be mapped. It stays mapped as long as anything refers to it."""
    try:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ))
    except (OSError, ValueError) as error:
        print("inputs come through the socket: the front's memory cannot be mapped (%s)" % error)
        return None
