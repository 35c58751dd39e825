"""One thread with an event loop, in which the engines of all models that this process has loaded run."""

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from gateway.errors import Unavailable

_T = TypeVar("_T")
# How long the exit of the interpreter waits for the loop.
_STOP_S = 1.0


class Background:
    """Runs coroutines for other threads, which may have an event loop of their own, as notebooks do.

    The thread lasts as long as the process: the kernel ends workers with the thread that has started them.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="modelport", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call a function. Raises Unavailable in a process that was forked from this one."""
        self.check()
        self.loop.call_soon_threadsafe(function, *arguments)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the loop, and wait for its result. Ctrl-C cancels it.

        Call `check` before: on the loop's own thread this would wait for ever.
        """
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            concurrent.futures.wait([future])
            raise

    def stop(self) -> None:
        """Stop the loop, when the interpreter exits, so that no coroutine sees what becomes of its workers.

        It would find the interpreter without threads. A callback of the program may hold the loop up.
        """
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_STOP_S)

    def check(self) -> None:
        if os.getpid() != self.pid:
            raise Unavailable(
                "this model was loaded by the process from which this one was forked, and works there only; load it "
                "again here, for example with model.spec.load()"
            )
        if threading.current_thread() is self._thread:
            raise Unavailable("this would wait for itself: call it from another thread than the callback of a future")


_lock = threading.Lock()
_current: Background | None = None


def background() -> Background:
    """Return the thread of this process, started if necessary."""
    global _current
    with _lock:
        if _current is None or _current.pid != os.getpid():
            _current = Background()
        return _current


def stop() -> None:
    """Stop the thread of this process, if it has one."""
    if _current is not None and _current.pid == os.getpid():
        _current.stop()


def _after_fork() -> None:
    # The parent may have held the lock when another of its threads forked.
    global _lock, _current
    _lock, _current = threading.Lock(), None


os.register_at_fork(after_in_child=_after_fork)
