"""Maps a front's arena for reading. Large inputs are in the arena and are not sent through the socket.

The arena is a file without a name, so the front sends its descriptor. If it cannot be mapped, all inputs come through
the socket.
"""

import mmap
import os
from typing import Optional


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
