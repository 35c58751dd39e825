"""gRPC by pygrpc-native, a transport in Rust. Importing this module fails if the library is not installed.

It uses the library's low-level interface, which does not need grpcio, and works around faults of release 0.5.0, so
pyproject.toml pins it. Each has a test in tests/unit/front/grpc/test_grpc_native.py.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pygrpc_native import EVENT_CANCEL, STREAM_CLOSED, STREAM_FULL, NativeGrpcFront

from gateway.domain.request_record import CANCELLED, CURRENT, Observer, RequestRecord
from gateway.engine.protocol import RequestHandle
from gateway.errors import TooLarge, Unavailable
from gateway.front.base.access import Access, Check, check_of, known_caller
from gateway.front.base.affinity import CALL_METADATA
from gateway.front.base.client_errors import to_client_error
from gateway.front.base.grpc_code import Code
from gateway.front.base.grpc_method import InferCall, Method, ServerStreamMethod, Service
from gateway.front.base.records import grpc_record
from gateway.front.base.request_ids import CURRENT_ID, HEADER, metadata_id
from gateway.front.dialects.v2.grpc import ModelInfer
from gateway.front.grpc.errors import to_status
from gateway.front.grpc.io_thread import IoThread
from gateway.front.grpc.mailbox import Mailbox
from gateway.front.grpc.port import GuardedPort
from gateway.front.grpc.streams import StreamServer

if TYPE_CHECKING:
    from gateway.front.fast_path import Calls, FastPath

# How often `stop` checks whether all answers have been sent, because the library has no event for it. The stop is
# delayed by this much at most.
_POLL_S = 0.01
# The library counts an answer as sent when the end of it may still be in its buffer, which `close` throws away. This is
# how long it has to write that: with 0, a busy machine lost one in seven large answers that were in progress.
_FLUSH_S = 0.1
# The library's name for the thread that sends answers.
_IO_THREAD = "grpc-native-io"
# Calls handed over to the event loop at a time.
_MAX_EVENTS = 64
# Channel arguments → arguments of the transport. Others have no meaning for it.
_ARGUMENTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "grpc.keepalive_time_ms": ("keepalive_time_ms", int),
    "grpc.keepalive_timeout_ms": ("keepalive_timeout_ms", int),
    "grpc.keepalive_permit_without_calls": ("keepalive_permit_without_calls", bool),
    "grpc.so_reuseport": ("reuse_port", bool),
}


class Submit(Protocol):
    def __call__(
        self,
        message: bytes,
        seconds: float | None,
        done: Callable[[bytes | Exception], None],
        check: Check | None = None,
        record: RequestRecord | None = None,
        /,
    ) -> RequestHandle:
        """`seconds` is the time until the call's deadline. `done` is called with the answer."""


class NativeServer:
    """A server with one port.

    Calls of hot methods (InferCall) need no task. Bidirectional streams, unknown methods and reflection are left to
    grpcio, behind this server.
    """

    def __init__(
        self,
        services: Sequence[Service],
        options: Sequence[tuple[str, Any]],
        access: Access | None = None,
        fast_path: "FastPath | None" = None,
        port: GuardedPort | None = None,
        observer: Observer | None = None,
    ) -> None:
        """`fast_path` takes the usual calls of ModelInfer. `observer` gets the record of each call.

        port: what clients connect to; without it, they connect to this server directly.
        """
        given = dict(options)
        self._receive_limit: int | None = given.get("grpc.max_receive_message_length")
        self._send_limit: int | None = given.get("grpc.max_send_message_length")
        self._arguments = {name: kind(given[key]) for key, (name, kind) in _ARGUMENTS.items() if key in given}
        self._access = access
        self._table: list[tuple[str, Method | ServerStreamMethod]] = []
        self._streaming: set[int] = set()
        for service in services:
            for name, method in service.methods.items():
                self._table.append((f"/{service.name}/{name}", method))
            for name, stream in service.server_streams.items():
                self._streaming.add(len(self._table))
                self._table.append((f"/{service.name}/{name}", stream))
        self._port = port
        self._folder = ""  # of the socket behind `port`
        self._others = StreamServer(services, options, access, port, observer)
        self._observer = observer
        self._front: NativeGrpcFront | None = None
        # From `start` on: the thread that receives what the transport does, and how it gets to the loop.
        self._thread: threading.Thread | None = None
        self._mailbox: Mailbox | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._submit: dict[int, Submit] = {
            number: method.submit for number, (_, method) in enumerate(self._table) if isinstance(method, InferCall)
        }
        self._handles: dict[int, RequestHandle] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}  # those that are not hot
        self._ids: dict[int, str] = {}  # of the calls in progress that have an id
        self._records: dict[int, RequestRecord] = {}  # of the calls in progress, if there is an observer
        self._answers: list[tuple[int, bytes]] = []  # of this turn of the event loop
        self._io_thread: IoThread | None = None  # found when it is needed: a new thread has no name yet
        self._stopping = False
        self._fast_method = -1
        self._fast_calls: Calls | None = None
        for number, (_, served) in enumerate(self._table):
            if fast_path is not None and isinstance(served, ModelInfer):
                self._fast_method = number
                self._fast_calls = fast_path.calls(
                    served.reader,
                    served.writer,
                    self._handles,
                    self._answers,
                    self._respond_soon,
                    self._answer,
                    sys.maxsize if self._send_limit is None else self._send_limit,
                    {} if access is None else access.known_headers,
                    self._begin_record,
                    self._end_record,
                )

    def add_port(self, address: str) -> int:
        """Bind the address, and return its port. Raises OSError."""
        bound = 0
        if self._port is not None:
            bound = self._port.bind(address, self._arguments.get("reuse_port", False))
            self._folder = tempfile.mkdtemp(prefix="grpc-")
            address = f"unix:{self._path}"
        self._front = NativeGrpcFront(
            address,
            [],
            io_threads=1,
            call_details=True,
            delay_stream_headers=True,
            metrics=True,  # they count the answers that have been sent: see stop
            **{"keepalive_permit_without_calls": False, **self._arguments},
        )
        return bound or self._front.bound_port

    @property
    def _path(self) -> str:
        return os.path.join(self._folder, "server")

    async def start(self) -> None:
        assert self._front is not None
        self._loop = asyncio.get_running_loop()
        self._front.set_fallback(await self._others.listen())
        self._front.add_methods([(path, number in self._streaming) for number, (path, _) in enumerate(self._table)])
        self._front.start()
        if self._port is not None:
            self._port.start(self._path)
        self._mailbox = Mailbox(self._loop, self._on_events)
        self._thread = threading.Thread(
            target=self._dispatch, args=[self._mailbox], name="pygrpc-native-dispatch", daemon=True
        )
        self._thread.start()

    async def wait_unreachable(self) -> None:
        """Wait forever: a thread of its own, or the guarded port, accepts connections until the server is stopped."""
        await asyncio.Event().wait()

    def go_away(self) -> None:
        """Have connected clients send further calls elsewhere. The library cannot do this, but the port can."""
        if self._port is not None:
            self._port.go_away()

    async def stop(self, grace: float | None) -> None:
        """Reject new calls, and wait up to `grace` seconds until running calls are answered and the answers sent."""
        assert self._front is not None
        ends = time.monotonic() + (grace or 0.0)
        self._stopping = True
        if self._port is not None:
            self._port.stop_accepting()
        others = asyncio.ensure_future(self._others.stop(grace))
        if self._unsent_answers():
            while self._unsent_answers() and time.monotonic() < ends:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(_POLL_S)
            await asyncio.sleep(min(_FLUSH_S, max(0.0, ends - time.monotonic())))
        for call in list(self._handles):
            self._handles.pop(call).cancel()
            self._end_record(call, Code.CANCELLED, CANCELLED)
        tasks = list(self._calls.values())
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, ends - time.monotonic()))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await others
        await asyncio.to_thread(self._front.close)
        mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None and self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            mailbox.close()
        if self._port is not None:
            await self._port.close(max(0.0, ends - time.monotonic()))
            shutil.rmtree(self._folder, ignore_errors=True)

    def _unsent_answers(self) -> int:
        """The number of calls, other than of streams, whose answer has not been sent completely."""
        assert self._front is not None
        counts = self._front.metrics() or {"methods": {}}
        streams = {self._table[number][0] for number in self._streaming}
        methods = [each for path, each in counts["methods"].items() if path not in streams]
        return sum(each["started"] - sum(ended["count"] for ended in each["status"].values()) for each in methods)

    def _dispatch(self, mailbox: Mailbox) -> None:
        """Pass on calls and cancellations to the event loop, until the transport is closed. Runs in a thread."""
        assert self._front is not None
        front, put = self._front, mailbox.put
        while (events := front.recv_batch_details(_MAX_EVENTS)) is not None:
            try:
                put(events)
            except RuntimeError:  # the loop was closed without `stop`
                front.close()
                return

    def _on_events(self, events: list[tuple[Any, ...]]) -> None:
        others = []
        handles, submits, access, limit = self._handles, self._submit, self._access, self._receive_limit
        fast_method, fast_calls = self._fast_method, self._fast_calls
        port, observer = self._port, self._observer
        record: RequestRecord | None = None
        context: tuple[int, str, Any] | tuple[()] = ()
        for event in events:
            kind, call, method, message, _, details = event
            if kind == EVENT_CANCEL:
                handle = handles.pop(call, None)
                if handle is None:
                    others.append(event)
                else:
                    handle.cancel()
                    self._ids.pop(call, None)
                    self._end_record(call, Code.CANCELLED, CANCELLED)
                continue
            submit = submits.get(method)
            if submit is None or self._stopping:
                others.append(event)
                continue
            metadata, peer, seconds = details
            if metadata and (request_id := metadata_id(metadata)):
                self._ids[call] = request_id
            try:
                # The library makes this check in the code around the handler, which is not called here.
                if limit is not None and len(message) > limit:
                    raise _too_large("message", message, limit)
                if port is not None:
                    if access is not None or observer is not None:
                        peer = port.peer(metadata)
                    port.refusals.check(message)
                if method == fast_method and fast_calls is not None:
                    identity = None
                    if access is not None:
                        identity = fast_calls.known_identity(metadata)
                        if identity is None:
                            identity = known_caller(access, peer, metadata, self._certificate(metadata))
                    if observer is not None:
                        context = (method, peer, metadata)
                    if (access is None or identity is not None) and fast_calls.take(
                        call, message, seconds, identity, context
                    ):
                        continue
                if observer is not None:
                    record = self._begin_record(call, method, peer, metadata, message)
                CALL_METADATA.set(metadata)
                done = partial(self._answer, call)
                if access is None:
                    handles[call] = submit(message, seconds, done, None, record)
                else:
                    check = check_of(access, peer, metadata, self._table[method][0], self._certificate(metadata))
                    handles[call] = submit(message, seconds, done, check, record)
            except Exception as error:
                if observer is not None and call not in self._records:
                    self._begin_record(call, method, peer, metadata, message)
                self._reject(call, error)
        # The library's thread keeps the list, and with it all messages, until the next event.
        events.clear()
        if others:
            self._on_other_events(others)

    def _certificate(self, metadata: Any) -> Sequence[str]:
        return () if self._port is None else self._port.certificate(metadata)

    def _on_other_events(self, events: list[tuple[Any, ...]]) -> None:
        assert self._loop is not None
        for kind, call, method, message, _, details in events:
            if kind == EVENT_CANCEL:
                if call in self._calls:
                    self._calls[call].cancel()
                continue
            metadata, peer, _ = details
            if request_id := metadata_id(metadata):
                self._ids[call] = request_id
            if self._observer is not None:
                self._begin_record(
                    call, method, peer if self._port is None else self._port.peer(metadata), metadata, message
                )
            if self._stopping:
                self._reject(call, Unavailable("the server is shutting down"))
            else:
                self._calls[call] = task = self._loop.create_task(self._run(call, method, message, details))
                # Not in the task: if it is cancelled before its first step, none of its code runs.
                task.add_done_callback(partial(self._forget, call))

    async def _run(self, call: int, number: int, message: bytes, details: Any) -> None:
        metadata, peer, seconds = details
        method: Any = self._table[number][1]
        CURRENT.set(self._records.get(call))
        CURRENT_ID.set(self._ids.get(call, ""))
        CALL_METADATA.set(metadata)
        try:
            if self._receive_limit is not None and len(message) > self._receive_limit:
                raise _too_large("message", message, self._receive_limit)
            if self._port is not None:
                self._port.refusals.check(message)
                peer = self._port.peer(metadata)
            check = check_of(self._access, peer, metadata, self._table[number][0], self._certificate(metadata))
            if number in self._streaming:
                await self._send_all(call, method(message, check))
            else:
                self._answer(call, await method(message, seconds, check))
        except Exception as error:
            self._reject(call, error)

    async def _send_all(self, call: int, answers: AsyncGenerator[bytes, None]) -> None:
        assert self._front is not None
        size = 0
        async with aclosing(answers):
            async for answer in answers:
                size += len(answer)
                sent = self._front.stream_try_send(call, answer)
                if sent == STREAM_CLOSED:
                    return
                # The client is slow.
                if sent == STREAM_FULL and not await asyncio.to_thread(self._front.stream_send, call, answer):
                    return
        self._front.stream_end(call, self._trailing(call))
        self._end_record(call, Code.OK, size=size)

    def _answer(self, call: int, outcome: bytes | Exception) -> None:
        self._handles.pop(call, None)
        if isinstance(outcome, Exception):
            self._reject(call, outcome)
        elif self._send_limit is not None and len(outcome) > self._send_limit:
            self._reject(call, _too_large("answer", outcome, self._send_limit))
        else:
            if not self._answers:
                self._respond_soon()
            self._answers.append((call, outcome))
            self._end_record(call, Code.OK, size=len(outcome))

    def _respond_soon(self) -> None:
        assert self._loop is not None
        self._loop.call_soon(self._respond)

    def _respond(self) -> None:
        """Hand over the answers of this turn of the event loop, all at once: see io_thread.py."""
        assert self._front is not None
        answers = self._answers.copy()
        self._answers.clear()
        respond = self._respond_with_id if self._ids else self._front.respond
        if len(answers) == 1:
            respond(*answers[0])
            return
        if self._io_thread is None:
            self._io_thread = IoThread.find(_IO_THREAD)
        with self._io_thread:
            for call, answer in answers:
                respond(call, answer)

    def _respond_with_id(self, call: int, answer: bytes) -> None:
        assert self._front is not None
        self._front.respond(call, answer, None, self._trailing(call))

    def _trailing(self, call: int) -> list[tuple[str, str]] | None:
        """Return the metadata at the end of an answer, which has the id of the call if it has one."""
        request_id = self._ids.pop(call, "")
        return [(HEADER, request_id)] if request_id else None

    def _reject(self, call: int, error: Exception) -> None:
        assert self._front is not None
        error = to_client_error(error, self._ids.get(call, ""))
        code, details, metadata = to_status(error)
        self._front.fail(call, code, details, trailing_metadata=[*metadata, *(self._trailing(call) or ())])
        self._end_record(call, code, error.kind)

    def _begin_record(self, call: int, method: int, peer: str, metadata: Any, message: bytes) -> RequestRecord:
        assert self._observer is not None
        record = grpc_record(self._observer, self._table[method][0], peer, metadata, len(message))
        self._records[call] = record
        self._ids[call] = record.request_id
        return record

    def _end_record(self, call: int, code: int, outcome: str = "", size: int = 0) -> None:
        record = self._records.pop(call, None) if self._records else None
        if record is not None:
            record.end(code, outcome, size)

    def _forget(self, call: int, task: "asyncio.Task[None]") -> None:
        self._calls.pop(call, None)
        self._ids.pop(call, None)
        self._end_record(call, Code.CANCELLED, CANCELLED)  # if it has not ended otherwise


def _too_large(what: str, message: bytes, limit: int) -> TooLarge:
    return TooLarge(f"the {what} has {len(message)} bytes, over the limit of {limit}")
