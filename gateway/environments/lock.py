"""A lock between processes, which the kernel releases when its holder ends, however it ends."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

# An event loop cannot wait for flock(), so it polls. Builds take minutes; a longer interval would delay the next one.
_POLL_S = 0.2


@asynccontextmanager
async def locked(file: Path, on_wait: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock. `on_wait` is called once if another process has it. The file stays, deleting it would race."""
    descriptor = _open(file)
    try:
        if not _try_lock(descriptor):
            on_wait()
            while not _try_lock(descriptor):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked_now(file: Path) -> Iterator[None]:
    """Hold the lock, without waiting for it. Raises BlockingIOError if another process has it."""
    descriptor = _open(file)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _open(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
