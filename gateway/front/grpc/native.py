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

# How often `stop` checks whether all answers have been sent, because the library has no event for it. The stop is
# delayed by this much at most.
_POLL_S = 0.01


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
        others = [event for event in events if not self._serve(*event)]
        super()._on_events(others)
        for kind, number, *_ in others:
            call = self._calls.get(number) if kind == EVENT_CANCEL else None
            if call is not None and call.task is not None:
                # If a task is cancelled before its first step, the library's own cleanup in it does not run.
                call.task.add_done_callback(partial(self._forget, number))
        # The library's thread keeps the list, and with it all messages, until the next event.
        events.clear()

    def _serve(self, kind: int, call: int, method: int, message: bytes, client: Any, details: Any) -> bool:
        """Handle the event of a hot method. Returns False if the library must handle it."""
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
            # The library makes this check in the code around the handler, which is not called here.
            if self._receive_limit is not None and len(message) > self._receive_limit:
                raise TooLarge(f"the message has {len(message)} bytes, over the limit of {self._receive_limit}")
            done = partial(self._answer, call)
            if self._access is None:
                self._handles[call] = submit(message, details[2], done)
            else:
                check = check_of(self._access, details[1], details[0])
                self._handles[call] = submit(message, details[2], done, check)
        except Exception as error:
            self._reject(call, error)
        return True

    def _answer(self, call: int, outcome: bytes | Exception) -> None:
        self._handles.pop(call, None)
        if isinstance(outcome, Exception):
            self._reject(call, outcome)
        elif self._send_limit is not None and len(outcome) > self._send_limit:
            self._reject(call, TooLarge(f"the answer has {len(outcome)} bytes, over the limit of {self._send_limit}"))
        else:
            assert self._front is not None
            self._front.respond(call, outcome)

    def _reject(self, call: int, error: Exception) -> None:
        assert self._front is not None
        code, details, metadata = to_status(error)
        self._front.fail(call, code.value[0], details, trailing_metadata=metadata)

    def _forget(self, number: int, task: Any) -> None:
        self._calls.pop(number, None)
