"""Waits until one of a worker's sockets can be read or written.

`selectors` of the standard library does the same. It takes several times as long per call, which is a tenth of what a
worker does for a small request.
"""

import select
from typing import Callable, Dict, List, Tuple

READABLE, WRITABLE = select.POLLIN, select.POLLOUT


class Poller:
    """Watches descriptors: by epoll where the system has it, because the cost of poll grows with their number.

    wait: returns (descriptor, events) of those that are ready within this many seconds. An error or the end of the
    peer is an event of its own.
    """

    def __init__(self) -> None:
        self.wait: Callable[[float], List[Tuple[int, int]]]
        if hasattr(select, "epoll"):
            self._poll = select.epoll()
            self.wait = self._poll.poll  # its events have the values of poll's
        else:
            self._poll = select.poll()
            self.wait = lambda seconds: self._poll.poll(seconds * 1000)
        self._watched: Dict[int, int] = {}

    def watch(self, descriptor: int, events: int) -> None:
        """Wait for these events of a descriptor from now on."""
        before = self._watched.get(descriptor)
        if before is None:
            self._poll.register(descriptor, events)
        elif before != events:
            self._poll.modify(descriptor, events)
        self._watched[descriptor] = events

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor, which must still be open."""
        del self._watched[descriptor]
        self._poll.unregister(descriptor)
