"""grpcio's server with the transport in Rust. Importing this fails where pygrpc-native is not installed.

Faults of the library's release 0.5.0 are met here, by what is private to it: so pyproject.toml takes
exactly this one. Each has a test in tests/unit/front/grpc/test_grpc_native.py.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from pygrpc_native import EVENT_CANCEL
from pygrpc_native.aio import Server

from gateway.engine.protocol import RequestHandle
from gateway.errors import TooLarge
from gateway.front.base.access import Access, Check, check_of
from gateway.front.grpc.errors import refused

_LOOK_S = 0.01


class Submit(Protocol):
    def __call__(
        self,
        message: bytes,
        seconds: float | None,
        done: Callable[[bytes | Exception], None],
        check: Check | None = None,
        /,
    ) -> RequestHandle:
        """`seconds` is what the call's deadline leaves. `done` is called with the answer."""


class NativeServer(Server):
    """Used as grpc.aio.Server is; `hot` are the paths of the unary methods that must not go the slow way.

    Where `hot` has a Submit for one, its calls go there instead of to the method's handler: without
    a task, a context and four coroutines for each of them.
    """

    def __init__(
        self, hot: Mapping[str, Submit | None], options: Sequence[tuple[str, Any]], access: Access | None = None
    ) -> None:
        super().__init__(options=options, io_threads=1)
        self._hot = hot
        self._access = access
        self._front_args["metrics"] = True  # they tell when an answer is out
        self._submit: dict[int, Submit] = {}
        self._handles: dict[int, RequestHandle] = {}

    async def start(self) -> None:
        """Raises RuntimeError where a hot method would be passed on to a grpcio server behind this one.

        The library does so without a word, where it finds that it cannot serve a handler itself.
        """
        await super().start()
        slow = self._hot.keys() - {path for path, _ in self._table}
        if slow:
            await super().stop(None)
            raise RuntimeError(f"these methods would not be served natively: {', '.join(sorted(slow))}")
        for number, (path, _) in enumerate(self._table):
            submit = self._hot.get(path)
            if submit is not None:
                self._submit[number] = submit

    async def stop(self, grace: float | None) -> None:
        """Refuses new calls, and lets those under way end until `grace` is over, answers on their way included.

        The library would close as soon as the handlers have returned, and cut off what they answered.
        """
        ends = time.monotonic() + (grace or 0.0)
        first, self._stopping = not self._stopping, True
        if first:
            while self._hot_calls() and time.monotonic() < ends:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(_LOOK_S)
            self._stopping = False
        for call in list(self._handles):
            self._handles.pop(call).cancel()
        await super().stop(max(0.0, ends - time.monotonic()))

    def _hot_calls(self) -> int:
        """How many of them are not answered to the last byte."""
        counts = self._front.metrics() if self._front is not None else None
        methods = [each for path, each in counts["methods"].items() if path in self._hot] if counts else []
        return sum(each["started"] - sum(ended["count"] for ended in each["status"].values()) for each in methods)

    def _on_events(self, events: list[tuple[Any, ...]]) -> None:
        others = [event for event in events if not self._take(*event)]
        super()._on_events(others)
        for kind, number, *_ in others:
            call = self._calls.get(number) if kind == EVENT_CANCEL else None
            if call is not None and call.task is not None:
                # A task that is cancelled before its first step never gets to where it would be forgotten.
                call.task.add_done_callback(partial(self._forget, number))
        # The library's thread holds the list, and so its messages, until the next call comes.
        events.clear()

    def _take(self, kind: int, call: int, method: int, message: bytes, client: Any, details: Any) -> bool:
        """Whether this is all that is to be done about the event."""
        if kind == EVENT_CANCEL:
            handle = self._handles.pop(call, None)
            if handle is None:
                return False
            handle.cancel()
            return True
        submit = self._submit.get(method)
        if submit is None or self._stopping:
            return False
        try:
            # Of the library's own checks, this one comes with the handler that is not called.
            if self._receive_limit is not None and len(message) > self._receive_limit:
                raise TooLarge(f"the message has {len(message)} bytes, over the limit of {self._receive_limit}")
            done = partial(self._answer, call)
            if self._access is None:
                self._handles[call] = submit(message, details[2], done)
            else:
                check = check_of(self._access, details[1], details[0])
                self._handles[call] = submit(message, details[2], done, check)
        except Exception as error:
            self._refuse(call, error)
        return True

    def _answer(self, call: int, outcome: bytes | Exception) -> None:
        self._handles.pop(call, None)
        if isinstance(outcome, Exception):
            self._refuse(call, outcome)
        elif self._send_limit is not None and len(outcome) > self._send_limit:
            self._refuse(call, TooLarge(f"the answer has {len(outcome)} bytes, over the limit of {self._send_limit}"))
        else:
            assert self._front is not None
            self._front.respond(call, outcome)

    def _refuse(self, call: int, error: Exception) -> None:
        assert self._front is not None
        code, details, metadata = refused(error)
        self._front.fail(call, code.value[0], details, trailing_metadata=metadata)

    def _forget(self, number: int, task: Any) -> None:
        self._calls.pop(number, None)
