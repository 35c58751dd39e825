"""One hot request on one connection, from its head to its answer.

Everything here is a plain call, made by the connection or by the engine. A task, a future and ASGI's messages for
each request would cost twice as much as all the work done here.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol, TypeVar, cast

from gateway.codecs.compression import MAX_INLINE, MIN_BYTES, choose_encoding, deflate, inflate, is_worth
from gateway.domain.identity import Identity
from gateway.domain.request_record import CANCELLED, RequestRecord
from gateway.domain.types import InferRequest, InferResponse, NotLoaded
from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.engine.protocol import ClientDisconnected, Engine, RequestHandle
from gateway.errors import InvalidRequest, ModelportError, Overloaded, TooLarge
from gateway.front.base.access import DeniedModel, GuardedEngine
from gateway.front.base.affinity import with_affinity
from gateway.front.base.body import Headers, read_headers
from gateway.front.base.client_errors import to_client_error
from gateway.front.base.dialect import EachWriter, Reply, Route, Writer, error_reply
from gateway.front.base.limits import Limits
from gateway.front.base.request_ids import header_line
from gateway.front.http.reading_memory import ReadingMemory, without_collections
from gateway.front.http.states import Stage
from runtimes.tensors import Buffer

_T = TypeVar("_T")

_OPEN, _PARSING, _INFERRING, _STREAMING, _FAILED, _COMPRESSING, _DONE = Stage

# The JSON in front of binary tensors is shifted so that the tensors start at a multiple of this, as numpy and the
# frameworks expect. 64 bytes are a cache line and the widest vector (AVX-512).
_ALIGNMENT = 64


class Head(NamedTuple):
    """What is known of a request before its body.

    limit        the largest body allowed, in bytes
    kind         the kind of body that has this limit, for error messages
    is_plain     whether neither the body nor, by the client's wish, the answer is compressed
    identity     who sent it; None if everything is allowed
    request_id   of the request whose head was found by an earlier one; b"" without one
    cors         lines to add to the answer, because a page of another origin reads it
    """

    route: Route
    headers: Headers
    limit: int
    kind: str
    is_plain: bool
    identity: Identity | None
    request_id: bytes = b""
    cors: bytes = b""


def read_head(
    route: Route,
    raw_headers: Sequence[tuple[bytes, bytes]],
    limits: Limits,
    identity: Identity | None = None,
    cors: bytes = b"",
) -> Head:
    """Raises ModelportError, including TooLarge if Content-Length is over the limit."""
    headers = read_headers(raw_headers)
    limit, kind = route.dialect.limit(headers, limits)
    if headers.content_length is not None and headers.content_length > limit:
        raise TooLarge(f"the body has {headers.content_length} bytes, over the limit of {limit} for {kind}")
    is_plain = not headers.encoding and not headers.accept_encoding
    return Head(route, headers, limit, kind, is_plain, identity, cors=cors)


class Connection(Protocol):
    """What a HotRequest needs from its connection."""

    def check(self, identity: Identity, model: str, path: str) -> None:
        """Check whether this client may send requests to this model. Raises Unauthenticated, Forbidden."""

    def record_refusal(self, identity: Identity, model: str, path: str, error: ModelportError) -> None:
        """Record in the audit log that this error refused a request."""

    def ask_for_body(self) -> None:
        """Send "100 Continue", which the client awaits before it sends the body."""

    def in_thread(self, work: Callable[[], _T], then: Callable[[_T], None], fail: Callable[[Exception], None]) -> None:
        """Run `work` in a thread. Then call `then` with its result, or `fail` with its exception, on the event loop."""

    def answer(self, reply: Reply, keep_alive: bool) -> None:
        """Write the reply. Afterwards the connection accepts another request, or is closed."""

    def reject(self, reply: Reply) -> None:
        """Write the reply and close: the body is incomplete, and the rest of it will be ignored."""

    def begin_events(self, headers: bytes, keep_alive: bool, on_writable: Callable[[], None]) -> None:
        """Write the head of an answer that consists of events. `on_writable`: called after a `send` returned False."""

    def send(self, data: bytes) -> bool:
        """Write events. Return whether the client can be sent more."""

    def end_events(self, data: bytes, keep_alive: bool) -> None:
        """Write the last events. Afterwards, the same holds as after `answer`."""


class HotRequest:
    """Takes the place of uvicorn's RequestResponseCycle. states.py has its states: Stage.

    uvicorn reads `keep_alive` and `response_complete`, which is True in DONE. `record` is None if nobody observes the
    request. `request_id` is b"" if it has none.
    """

    __slots__ = (
        "_body_complete",
        "_buffer",
        "_chunks",
        "_connection",
        "_cors",
        "_encoding",
        "_engine",
        "_expects_continue",
        "_handle",
        "_has_turn",
        "_head",
        "_limits",
        "_received",
        "_reply",
        "_reservation",
        "_route",
        "_sent",
        "_stage",
        "_unread",
        "_write",
        "keep_alive",
        "record",
        "request_id",
        "response_complete",
    )  # fmt: skip

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        connection: Connection,
        keep_alive: bool,
        expects_continue: bool = False,
        record: RequestRecord | None = None,
        request_id: bytes = b"",
        cors: bytes = b"",
    ) -> None:
        """cors: lines to add to the answer."""
        self.keep_alive = keep_alive
        self._cors = cors
        self.record = record
        self.request_id = request_id if record is None else record.request_id.encode()
        self.response_complete = False
        self._engine, self._limits, self._connection = engine, limits, connection
        self._expects_continue = expects_continue
        self._stage = _OPEN
        self._body_complete = self._has_turn = False
        self._handle: RequestHandle | None = None
        # The answer's Content-Encoding; "" for none.
        self._encoding = ""
        # Of events: the bytes sent, and how many the client has not read.
        self._sent = self._unread = 0

    def open(self, head: Head | Exception, route: Route, identity: Identity | None) -> None:
        """Start with a head, or with the error that it caused."""
        self._route = route
        if self.record is not None:
            self.record.model, self.record.version = route.model, route.version
            self.record.identity = "" if identity is None else identity.name
        self._chunks: list[bytes] = []
        self._buffer: memoryview | None = None
        self._received = 0
        self._reservation = self._engine.reserve_body(route.model, route.version, identity)
        try:
            if identity is not None:
                self._check(identity, route.model)  # a body that names the model is checked when it is read, again
            if isinstance(head, Exception):
                self.fail(head)  # raised again, it would refer to this frame, which refers to it
                return
            self._head = head
            if head.headers.accept_encoding:
                self._encoding = choose_encoding(head.headers.accept_encoding)
            length = head.headers.content_length
            if length is not None:
                self._reservation.reserve(length)
                if length >= MIN_ARENA_BYTES and not head.headers.encoding:
                    shift = -(head.headers.json_length or 0) % _ALIGNMENT
                    self._buffer = self._engine.buffer(length + shift, route.model)[shift : shift + length]
        except Exception as error:
            self.fail(error)

    def serve(self, head: Head, body: bytes) -> None:
        """Do what `open`, `on_body`, `on_body_complete` and `start` do, for a small request that has arrived whole.

        Most requests are served here. The engine has counted none of its bytes before `submit` does, because its body
        is gone when this returns.
        """
        route, headers = head.route, head.headers
        identity = head.identity
        if not head.is_plain or route.dialect.is_slow(headers, body):
            if headers.content_length != len(body):  # the head came before, with another length (head_cache.py)
                head = head._replace(headers=replace(headers, content_length=len(body)))
            self.open(head, route, identity)
            self.on_body(body)
            self.on_body_complete()
            self.start()
            return
        self._route, self._head = route, head
        self._body_complete = self._has_turn = True
        record = self.record
        if record is not None:
            record.model, record.version = route.model, route.version
            record.identity = "" if identity is None else identity.name
            record.receive(len(body))
        try:
            if identity is not None:
                self._check(identity, route.model)
            request, self._write = route.dialect.read(self._reading_engine(), self._limits, route, headers, body)
            if identity is not None and not route.model:
                self._check(identity, request.model)
        except Exception as error:
            self._reservation = self._engine.reserve_body(route.model, route.version)
            self._fail_reading(body, len(body), error)
            return
        self._stage = _INFERRING
        try:
            if self._engine.sticky_headers:
                request = with_affinity(self._engine, request, headers.raw)
            if record is not None:
                request = record.attach(request, identity)
            self._handle = self._engine.submit(request, self._on_answer, identity, route.dialect.takes_many)
        except NotLoaded as unloaded:
            self._reservation = self._engine.reserve_body(route.model, route.version)
            self._wait_for_load(unloaded, partial(self._submit, (request, self._write)), len(body))
        except Exception as error:
            self._send(self._error_reply(error))

    @property
    def waits_for_body(self) -> bool:
        return not self._body_complete and self._stage is _OPEN

    def receive_buffer(self) -> memoryview | None:
        """Where to receive the next bytes of a large body, or None if there is none."""
        return None if self._buffer is None else self._buffer[self._received :] or None

    def buffer_filled(self, size: int) -> bool:
        """Note that `size` bytes were received into `receive_buffer`. Returns whether the body is complete."""
        self._received += size
        assert self._buffer is not None
        return self._received == len(self._buffer)

    def on_body(self, chunk: bytes | memoryview) -> None:
        if self._stage is not _OPEN:
            return
        size = len(chunk)
        if self._buffer is not None:
            self._buffer[self._received : self._received + size] = chunk
            self._received += size
            return
        self._received += size
        self._chunks.append(bytes(chunk))
        head = self._head
        if head.headers.content_length is None:
            try:
                if self._received > head.limit:
                    raise TooLarge(f"the body is over the limit of {head.limit} bytes for {head.kind}")
                self._reservation.reserve(size)
            except ModelportError as error:
                self.fail(error)

    def hand_over(self) -> tuple[Head, memoryview] | None:
        """Return head and body for the compiled path, if the body is large and complete, and the request is usual.

        Before the compiled path asks for admission, which counts the request, it calls `leave`. If it does not take the
        request, it calls `come_back` if it has left, and `on_body_complete`.
        """
        is_usual = self._has_turn and self._stage is _OPEN and self._head.is_plain and self.keep_alive
        if not is_usual or self._buffer is None or self.record is not None or self._cors:
            return None
        return self._head, self._buffer

    def leave(self) -> None:
        """Release what is reserved for the body: it counts as that of a request that is admitted now."""
        self._reservation.suspend()

    def come_back(self) -> None:
        """Reserve it again, because the request was not admitted: a thread may read the body, or it may wait."""
        self._reservation.resume()

    def end_taken(self) -> None:
        """End, because the compiled path has taken the request."""
        self._stage, self.response_complete = _DONE, True
        self._buffer = None

    def on_body_complete(self) -> None:
        self._body_complete = True
        if self.record is not None:
            self.record.receive(self._received)
        if self._has_turn and self._stage is _OPEN:
            self._run()

    def start(self) -> None:
        """Take the turn: all earlier requests on the connection have been answered."""
        self._has_turn = True
        if self._stage is _FAILED:
            self._send(self._reply)
        elif self._body_complete:
            self._run()
        elif self._expects_continue:
            self._connection.ask_for_body()

    def encode_error(self, error: ModelportError) -> bytes:
        """Encode an error as the request's dialect does."""
        return self._route.dialect.encode_error(error)

    def abandon(self) -> None:
        """End without an answer: the client has disconnected."""
        stage = self._stage
        if stage is _DONE:
            return
        self._stage, self.response_complete = _DONE, True
        self._chunks, self._buffer = [], None  # the connection and this refer to each other, so both may live on
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()
            if stage is _PARSING:  # it waits until its model has been loaded
                self._reservation.close()
        elif stage is _OPEN:  # in PARSING, the reservation is closed when the thread ends
            self._reservation.close(ClientDisconnected())
        record, self.record = self.record, None
        if record is not None and not record.status:  # whoever has set the status ends it
            record.end(0, CANCELLED)

    def _run(self) -> None:
        headers = self._head.headers
        # One client must not see another's bytes. The buffer of a large body is a block of the arena, which is reused
        # without being cleared: whatever this client has not overwritten is still data of earlier requests. Content-
        # Length determines the size of the block, but the parser may end the body earlier, such as with a last chunk.
        # The rest of the block would then go to the model as this client's input, and could come back in its answer.
        # So nothing reads the block unless exactly as many bytes were written to it as it has.
        if headers.content_length not in (None, self._received):
            self.fail(InvalidRequest("the length of the body differs from its Content-Length; send it again"))
            return
        body: Buffer = self._buffer if self._buffer is not None else b""
        if self._chunks:
            body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._buffer, self._chunks = None, []  # while the request waits, only its tensors stay in memory
        if headers.encoding:
            work = partial(inflate, body, headers.encoding, self._head.limit, self._head.kind)
            self._read_in_thread(work, self._on_inflated, self.fail)
        else:
            self._read(body)

    def _on_inflated(self, body: bytes) -> None:
        try:
            self._reservation.reserve(len(body))
        except ModelportError as error:
            self.fail(error)
        else:
            self._read(body)

    def _read(self, body: Buffer) -> None:
        route, headers = self._head.route, self._head.headers
        read = partial(route.dialect.read, self._reading_engine())
        if route.dialect.is_slow(headers, body):
            reserve = ReadingMemory(self, asyncio.get_running_loop())
            limits = replace(self._limits, reserve=reserve)
            work = partial(without_collections, partial(read, limits, route, headers, body))

            def submit(result: tuple[InferRequest, Writer]) -> None:
                reserve.request = None
                self._submit(result)

            self._read_in_thread(work, submit, partial(self._fail_reading, body, 0))
            return
        try:
            result = read(self._limits, route, headers, body)
        except Exception as error:
            self._fail_reading(body, 0, error)
        else:
            self._submit(result)

    def _fail_reading(self, body: Buffer, size: int, error: Exception) -> None:
        """End with an error, or wait if the model must be loaded before the body can be read.

        size  the bytes of the body that nobody has counted
        """
        if isinstance(error, NotLoaded):
            self._wait_for_load(error, partial(self._read, body), size)
        else:
            self.fail(error)

    def _wait_for_load(self, unloaded: NotLoaded, go_on: Callable[[], None], size: int) -> None:
        self._stage = _PARSING

        def proceed() -> None:
            self._handle = None
            go_on()

        def fail(error: Exception) -> None:
            self._handle = None
            self._reservation.close()  # the error was counted
            self._send(self._error_reply(error))

        try:
            self._handle = self._engine.when_loaded(unloaded, proceed, fail, size, identity=self._head.identity)
        except ModelportError as error:
            self.fail(error)

    def _read_in_thread(
        self, work: Callable[[], _T], then: Callable[[_T], None], fail: Callable[[Exception], None]
    ) -> None:
        """Have a thread read the body, which is complete: from now on, draining does not refuse the request.

        If the request ends before the thread does, the reservation stays open until the thread has ended.
        """
        reason: Exception = ClientDisconnected()

        def stop(error: ModelportError) -> None:
            nonlocal reason
            reason = error
            self._send(self._error_reply(error))

        try:
            accepted = self._engine.accept(stop)
        except ModelportError as error:
            self.fail(error)
            return

        def proceed(go_on: Callable[[], None]) -> None:
            if self._stage is _DONE:
                accepted.end()
                self._reservation.close(reason)
            else:
                accepted.proceed(go_on)

        self._in_thread(
            _PARSING, work, lambda read: proceed(partial(then, read)), lambda error: proceed(partial(fail, error))
        )

    def _in_thread(
        self, stage: Stage, work: Callable[[], _T], then: Callable[[_T], None], fail: Callable[[Exception], None]
    ) -> None:
        """Run work that takes milliseconds in a thread, because it would block the event loop."""
        self._stage = stage

        def unless_done() -> _T:
            if self._stage is _DONE:
                raise ClientDisconnected
            return work()

        self._connection.in_thread(unless_done, then, fail)

    def reserve_to_read(self, size: int) -> None:
        if self._stage is _DONE:
            raise ClientDisconnected
        self._reservation.reserve(size, is_input=False)

    def release_to_read(self, size: int) -> None:
        self._reservation.release(size)

    def _submit(self, read: tuple[InferRequest, Writer]) -> None:
        request, self._write = read
        self._reservation.close()
        self._stage = _INFERRING
        try:
            identity = self._head.identity
            if identity is not None and not self._route.model:
                self._check(identity, request.model)
            if self._engine.sticky_headers:
                request = with_affinity(self._engine, request, self._head.headers.raw)
            if self.record is not None:
                request = self.record.attach(request, identity)
            takes_many = self._route.dialect.takes_many
            self._handle = self._engine.submit(request, self._on_answer, identity, takes_many)
        except NotLoaded as unloaded:
            size = sum([len(tensor.data) for tensor in request.inputs])
            self._wait_for_load(unloaded, partial(self._submit, read), size)
        except Exception as error:
            self._send(self._error_reply(error))

    def _on_answer(self, outcome: InferResponse | Exception) -> None:
        """Send an answer. Only dialects that take many get others than the final one."""
        if isinstance(outcome, InferResponse):
            if not outcome.final:
                if self._route.dialect.takes_many:
                    self._on_each(outcome)
                return
            try:
                reply = self._write(outcome)
            except Exception as error:
                reply = self._error_reply(error)
        else:
            reply = self._error_reply(outcome)
        self._handle = None  # it refers back to this request: without the cycle, memory is freed without the collector
        if self._stage is _STREAMING:
            self._end_events(reply)
        elif self._encoding or self._stage is not _INFERRING:
            self._send(reply)
        else:
            self._finish(reply)

    def _on_each(self, response: InferResponse) -> None:
        """Send an answer that is not the final one."""
        handle = self._handle
        if handle is None:
            return
        try:
            data = cast(EachWriter, self._write).add(response)
        except Exception as error:
            handle.cancel()
            self._on_answer(error)
            return
        if not data:
            handle.acknowledge()
            return
        if self._stage is _INFERRING:
            self._stage = _STREAMING
            self._connection.begin_events(self._own_headers(), self.keep_alive, self._on_writable)
        self._sent += len(data)
        self._unread += 1
        if self._connection.send(data):
            self._on_writable()

    def _on_writable(self) -> None:
        """The client has read what was sent, or the system has taken it."""
        handle, unread, self._unread = self._handle, self._unread, 0
        if handle is not None:
            for _ in range(unread):
                handle.acknowledge()

    def _end_events(self, reply: Reply) -> None:
        self._stage, self.response_complete = _DONE, True
        data = b"".join(reply.body)
        if reply.status != 200:
            data = b"data: %b\n\n" % data
        self._connection.end_events(data, self.keep_alive)
        record, self.record = self.record, None
        if record is not None:
            record.end(200, bytes_out=self._sent + len(data))

    def fail(self, error: Exception) -> None:
        """End with an error before the engine has the request."""
        if isinstance(error, DeniedModel):
            error = self._refusal(error.model)
        self._reservation.close(error)
        self._chunks, self._buffer = [], None
        self._stage, self._reply = _FAILED, self._error_reply(error)
        if self._has_turn:
            self._send(self._reply)

    def _check(self, identity: Identity, model: str) -> None:
        self._connection.check(identity, model, self._route.path)

    def _refusal(self, model: str) -> Exception:
        """Return the error for a client that may not use this model, which is recorded."""
        assert self._head.identity is not None
        try:
            self._check(self._head.identity, model)
        except ModelportError as refusal:
            # Its traceback refers to the callers, one of which keeps the error and another the body's values. They
            # would stay in memory until the garbage collector runs.
            return refusal.with_traceback(None)
        raise AssertionError(f"'{model}' was denied before")

    def _reading_engine(self) -> Engine:
        """Return the engine for reading the body."""
        identity = self._head.identity
        if identity is None or self._route.model:
            return self._engine
        return cast(Engine, GuardedEngine(self._engine, identity))

    def _error_reply(self, error: Exception) -> Reply:
        if isinstance(error, Overloaded) and self._head.identity is not None:
            self._connection.record_refusal(self._head.identity, self._route.model, self._route.path, error)
        error = to_client_error(error, self.request_id.decode())  # logged once, if it is not expected
        if self.record is not None:
            self.record.outcome = error.kind
        return error_reply(self._route.dialect, error)

    def _send(self, reply: Reply) -> None:
        if self._stage is _DONE:  # the client has disconnected
            return
        if self._encoding:
            reply = reply._replace(headers=reply.headers + b"vary: accept-encoding\r\n")
            size = sum([len(part) for part in reply.body])
            if size >= MIN_BYTES and not _is_encoded(reply):
                compress = partial(_compressed, reply, self._encoding)
                if size > MAX_INLINE and self._body_complete:
                    self._in_thread(_COMPRESSING, compress, self._finish_unless_done, self._finish_with_error)
                    return
                reply = compress()
        self._finish(reply)

    def _finish_unless_done(self, reply: Reply) -> None:
        if self._stage is not _DONE:
            self._finish(reply)

    def _finish_with_error(self, error: Exception) -> None:
        if self._stage is not _DONE:
            self._finish(self._error_reply(error))

    def _finish(self, reply: Reply) -> None:
        self._stage, self.response_complete = _DONE, True
        if self.request_id or self._cors:
            reply = reply._replace(headers=reply.headers + self._own_headers())
        if self._body_complete:
            self._connection.answer(reply, self.keep_alive)
        else:
            self._connection.reject(reply)
        record, self.record = self.record, None
        if record is not None:
            record.end(reply.status, bytes_out=sum([len(part) for part in reply.body]))

    def _own_headers(self) -> bytes:
        return (header_line(self.request_id) if self.request_id else b"") + self._cors


def _is_encoded(reply: Reply) -> bool:
    """Whether the model's handler has compressed the answer itself."""
    return b"\r\ncontent-encoding:" in b"\r\n" + reply.headers


def _compressed(reply: Reply, encoding: str) -> Reply:
    if not is_worth(reply.body):
        return reply
    header = b"content-encoding: %b\r\n" % encoding.encode()
    return reply._replace(body=[deflate(reply.body, encoding)], headers=reply.headers + header)
