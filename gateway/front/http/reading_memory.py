"""What a thread that reads the body of a request does about memory."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from gateway.process.memory import collections_paused

_T = TypeVar("_T")


class ReadRequest(Protocol):
    """The request, whose methods are called on the event loop."""

    def reserve_to_read(self, size: int) -> None:
        """Raises Overloaded, and ClientDisconnected."""

    def release_to_read(self, size: int) -> None: ...


class ReadingMemory:
    """Reserves memory that a thread uses to read the body of a request.

    What writes the answer keeps the limits, and with them this. So it forgets the request once the body has been read.
    Otherwise, the request would keep itself and its tensors until the garbage collector runs, and fronts rarely run it.
    """

    def __init__(self, request: ReadRequest, loop: asyncio.AbstractEventLoop) -> None:
        self.request: ReadRequest | None = request
        self._loop = loop

    @contextmanager
    def __call__(self, size: int) -> Iterator[None]:
        """Raise Overloaded, and ClientDisconnected, which ends the request: it may have waited, and asks again."""
        request = self.request
        assert request is not None

        async def reserve() -> None:
            request.reserve_to_read(size)

        asyncio.run_coroutine_threadsafe(reserve(), self._loop).result()
        try:
            yield
        finally:
            # It comes before whatever threads ask of the loop from now on, and before the request is submitted.
            self._loop.call_soon_threadsafe(request.release_to_read, size)


def without_collections(read: Callable[[], _T]) -> _T:
    with collections_paused():
        return read()
