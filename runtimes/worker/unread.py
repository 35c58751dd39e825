"""How much of its answers a decoupled model may send before its client has read them."""

from collections import deque
from typing import Deque

from runtimes import wire


class Unread:
    """The answers to one request that its client has not read, without the final one."""

    __slots__ = ("_bytes", "_sizes")

    def __init__(self) -> None:
        self._sizes: Deque[int] = deque()
        self._bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether another answer may be sent, of whatever size."""
        return len(self._sizes) < wire.MAX_UNREAD_ANSWERS and self._bytes < wire.MAX_UNREAD_BYTES

    def add(self, size: int) -> None:
        self._sizes.append(size)
        self._bytes += size

    def acknowledge(self) -> None:
        """The client has read the oldest of them."""
        if self._sizes:
            self._bytes -= self._sizes.popleft()
