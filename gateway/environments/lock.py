"""One process at a time: a lock that the kernel lets go of when its holder ends, however it ends."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

# flock() has no form that an event loop can wait for; builds take minutes.
_POLL_S = 0.2


@asynccontextmanager
async def locked(file: Path, on_wait: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock; `on_wait` is called once when somebody else has it. The file stays: deleting it would race."""
    descriptor = _open(file)
    try:
        if not _take(descriptor):
            on_wait()
            while not _take(descriptor):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked_now(file: Path) -> Iterator[None]:
    """The same without waiting. Raises BlockingIOError when somebody else has it."""
    descriptor = _open(file)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _open(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
