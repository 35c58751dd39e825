"""Threads for what takes milliseconds, and the way back to the event loop.

`run_in_executor` makes two futures for each call, and wakes the loop for each that has ended. While many images are
decoded, the loop's thread mostly waits for the GIL, so several have ended by then: they are handed over together.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from gateway.engine.protocol import ClientDisconnected

_T = TypeVar("_T")


class ReadingThreads:
    """Runs work in the threads of an executor, and what follows it on the event loop."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._ended: deque[Callable[[], None]] = deque()
        self._is_woken = False  # whether the loop was woken, and has not looked since

    def submit(self, work: Callable[[], _T], then: Callable[[_T], None], fail: Callable[[Exception], None]) -> None:
        """Run `work` in a thread, then call `then` with its result, or `fail` with its exception, on this loop."""
        self._executor.submit(self._run, asyncio.get_running_loop(), work, then, fail)

    def _run(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[[], Any],
        then: Callable[..., None],
        fail: Callable[..., None],
    ) -> None:
        try:
            ended = partial(then, work())
        except BaseException as error:
            ended = partial(fail, error if isinstance(error, Exception) else ClientDisconnected())
        self._ended.append(ended)
        # The exception refers to this frame: with these, it would keep a request until the garbage collector runs.
        del ended, work, then, fail
        if not self._is_woken:  # the loop resets it before it looks, so nothing is left behind
            self._is_woken = True
            loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._is_woken = False
        for _ in range(len(self._ended)):  # those that come meanwhile have a turn of their own
            try:
                self._ended.popleft()()
            except Exception as error:
                message = {"message": "what follows the work of a thread has failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(message)
