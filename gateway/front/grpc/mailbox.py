"""Hands over what a thread receives to the event loop.

`call_soon_threadsafe` wakes the loop's thread while this one has the GIL. With one call in flight on a busy core, the
loop's thread runs at once, waits for the GIL, and has to be woken again. Here the GIL is free while the loop is woken,
and a loop that was woken already is not woken once more.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any


class Mailbox:
    """Batches of events on their way from one thread to the event loop, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[list[Any]], None]) -> None:
        """`receive` is called on the loop with each batch."""
        self._loop, self._receive = loop, receive
        self._batches: deque[list[Any]] = deque()
        # Whether the loop was woken, and has not looked since. There is never more than one byte in the pipe.
        self._is_woken = False
        self._reader, self._writer = os.pipe()
        for descriptor in (self._reader, self._writer):
            os.set_blocking(descriptor, False)
        loop.add_reader(self._reader, self._on_readable)

    def put(self, batch: list[Any]) -> None:
        """Hand over a batch. Called by the thread. Raises RuntimeError if the loop is closed."""
        if self._loop.is_closed():
            raise RuntimeError("the event loop is closed")
        self._batches.append(batch)
        if not self._is_woken:  # the loop resets it before it looks, so no batch is left behind
            self._is_woken = True
            os.write(self._writer, b"\0")

    def close(self) -> None:
        """Hand over what is left, and free the descriptors. Called on the loop, when the thread has ended."""
        self._loop.remove_reader(self._reader)
        self._take_all()
        os.close(self._reader)
        os.close(self._writer)

    def _on_readable(self) -> None:
        os.read(self._reader, 1)
        self._is_woken = False
        self._take_all()

    def _take_all(self) -> None:
        for _ in range(len(self._batches)):  # those that come meanwhile have a turn of their own
            try:
                self._receive(self._batches.popleft())
            except Exception as error:
                self._loop.call_exception_handler({"message": "events were not handled", "exception": error})
