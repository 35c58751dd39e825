"""grpcio's server with the transport in Rust. Importing this module fails if pygrpc-native is not installed.

It works around bugs of pygrpc-native 0.5.0 by means of the library's private attributes, so pyproject.toml pins this
release. Each bug has a test in tests/unit/front/grpc/test_grpc_native.py.
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
from gateway.front.grpc.errors import to_status
from gateway.front.grpc.io_thread import IoThread

# How often `stop` checks whether all answers have been sent, because the library has no event for it. The stop is
# delayed by this much at most.
_POLL_S = 0.01
# The library's name for the thread that sends answers.
_IO_THREAD = "grpc-native-io"


class Submit(Protocol):
    def __call__(
        self,
        message: bytes,
        seconds: float | None,
        done: Callable[[bytes | Exception], None],
        check: Check | None = None,
        /,
    ) -> RequestHandle:
        """`seconds` is the time until the call's deadline. `done` is called with the answer."""


class NativeServer(Server):
    """Used like grpc.aio.Server. `hot` has the paths of the unary methods that must be served natively.

    If `hot` has a Submit for a path, calls go there instead of to the method's handler, which saves a task, a context
    and four coroutines per call.
    """

    def __init__(
        self, hot: Mapping[str, Submit | None], options: Sequence[tuple[str, Any]], access: Access | None = None
    ) -> None:
        super().__init__(options=options, io_threads=1)
        self._hot = hot
        self._access = access
        self._front_args["metrics"] = True  # they count the answers that have been sent: see stop
        self._submit: dict[int, Submit] = {}
        self._handles: dict[int, RequestHandle] = {}
        self._answers: list[tuple[int, bytes]] = []  # of this turn of the event loop
        self._io_thread: IoThread | None = None  # found when it is needed: a new thread has no name yet

    async def start(self) -> None:
        """Raises RuntimeError if a hot method would be served by a grpcio server behind this one.

        The library silently starts one for handlers that it cannot serve natively.
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
        """Reject new calls, and wait up to `grace` seconds until running calls are answered and the answers sent.

        The library would close as soon as the handlers have returned, and cut off answers that are being sent.
        """
        ends = time.monotonic() + (grace or 0.0)
        first, self._stopping = not self._stopping, True
        if first:
            while self._unsent_hot_answers() and time.monotonic() < ends:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(_POLL_S)
            self._stopping = False
        for call in list(self._handles):
            self._handles.pop(call).cancel()
        await super().stop(max(0.0, ends - time.monotonic()))

    def _unsent_hot_answers(self) -> int:
        """The number of calls of hot methods whose answer has not been sent completely."""
        counts = self._front.metrics() if self._front is not None else None
        methods = [each for path, each in counts["methods"].items() if path in self._hot] if counts else []
        return sum(each["started"] - sum(ended["count"] for ended in each["status"].values()) for each in methods)

    def _on_events(self, events: list[tuple[Any, ...]]) -> None:
        others = []
        handles, submits, access, limit = self._handles, self._submit, self._access, self._receive_limit
        for event in events:
            kind, call, method, message, _, details = event
            if kind == EVENT_CANCEL:
                handle = handles.pop(call, None)
                if handle is None:
                    others.append(event)
                else:
                    handle.cancel()
                continue
            submit = submits.get(method)
            if submit is None or self._stopping:
                others.append(event)
                continue
            metadata, peer, seconds = details
            try:
                # The library makes this check in the code around the handler, which is not called here.
                if limit is not None and len(message) > limit:
                    raise TooLarge(f"the message has {len(message)} bytes, over the limit of {limit}")
                done = partial(self._answer, call)
                if access is None:
                    handles[call] = submit(message, seconds, done)
                else:
                    handles[call] = submit(message, seconds, done, check_of(access, peer, metadata))
            except Exception as error:
                self._reject(call, error)
        # The library's thread keeps the list, and with it all messages, until the next event.
        events.clear()
        if others:
            self._on_other_events(others)

    def _on_other_events(self, events: list[tuple[Any, ...]]) -> None:
        super()._on_events(events)
        for kind, number, *_ in events:
            call = self._calls.get(number) if kind == EVENT_CANCEL else None
            if call is not None and call.task is not None:
                # If a task is cancelled before its first step, the library's own cleanup in it does not run.
                call.task.add_done_callback(partial(self._forget, number))

    def _answer(self, call: int, outcome: bytes | Exception) -> None:
        self._handles.pop(call, None)
        if isinstance(outcome, Exception):
            self._reject(call, outcome)
        elif self._send_limit is not None and len(outcome) > self._send_limit:
            self._reject(call, TooLarge(f"the answer has {len(outcome)} bytes, over the limit of {self._send_limit}"))
        else:
            if not self._answers:
                assert self._loop is not None
                self._loop.call_soon(self._respond)
            self._answers.append((call, outcome))

    def _respond(self) -> None:
        """Hand over the answers of this turn of the event loop, all at once: see io_thread.py."""
        assert self._front is not None
        answers, self._answers = self._answers, []
        if len(answers) == 1:
            self._front.respond(*answers[0])
            return
        respond = self._front.respond
        if self._io_thread is None:
            self._io_thread = IoThread.find(_IO_THREAD)
        with self._io_thread:
            for call, answer in answers:
                respond(call, answer)

    def _reject(self, call: int, error: Exception) -> None:
        assert self._front is not None
        code, details, metadata = to_status(error)
        self._front.fail(call, code.value[0], details, trailing_metadata=metadata)

    def _forget(self, number: int, task: Any) -> None:
        self._calls.pop(number, None)
