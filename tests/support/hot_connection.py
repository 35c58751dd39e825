"""The connection of one hot request, which records the replies."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from gateway.domain.identity import Identity
from gateway.errors import ModelportError
from gateway.front.base.dialect import Reply
from gateway.front.http.reading_threads import ReadingThreads

_T = TypeVar("_T")


class _LoopsExecutor(Executor):
    """The default executor of the running event loop, which tests may replace."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
        return asyncio.get_running_loop().run_in_executor(None, partial(function, *arguments, **keywords))


class HotConnection:
    """What gateway.front.http.hot_request asks of a connection. `replied` is set by the first reply."""

    def __init__(self) -> None:
        self.answered: list[Reply] = []
        self.rejected: list[Reply] = []
        self.replied = asyncio.Event()
        self._threads = ReadingThreads(_LoopsExecutor())

    def check(self, identity: Identity, model: str, path: str) -> None:
        raise AssertionError("there is no access check")

    def record_refusal(self, identity: Identity, model: str, path: str, error: ModelportError) -> None:
        raise AssertionError("nobody is known")

    def ask_for_body(self) -> None:
        raise AssertionError("no client asked for it")

    def in_thread(self, work: Callable[[], _T], then: Callable[[_T], None], fail: Callable[[Exception], None]) -> None:
        self._threads.submit(work, then, fail)

    def answer(self, reply: Reply, keep_alive: bool) -> None:
        self.answered.append(reply)
        self.replied.set()

    def reject(self, reply: Reply) -> None:
        self.rejected.append(reply)
        self.replied.set()

    def begin_events(self, headers: bytes, keep_alive: bool, on_writable: Callable[[], None]) -> None:
        raise AssertionError("there are no events")

    def send(self, data: bytes) -> bool:
        raise AssertionError("there are no events")

    def end_events(self, data: bytes, keep_alive: bool) -> None:
        raise AssertionError("there are no events")
