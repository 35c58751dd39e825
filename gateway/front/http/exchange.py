"""One hot request on one connection, from its head to its answer.

Plain calls from the connection's events and the engine's: a task, a future and ASGI's messages for
each request would cost twice as much as all that is done here.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from gateway.codecs.compression import MAX_INLINE, MIN_BYTES, choose_encoding, deflate, inflate, is_worth
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.engine.protocol import ClientDisconnected, Engine, RequestHandle
from gateway.errors import InvalidRequest, ModelportError, Overloaded, TooLarge
from gateway.front.base.access import Access, Caller
from gateway.front.base.body import Headers, read_headers
from gateway.front.base.client_errors import as_told
from gateway.front.base.dialect import Reply, Route, Writer
from gateway.front.base.limits import Limits
from gateway.front.http.states import Stage
from gateway.process.memory import collections_paused
from runtimes.tensors import Buffer

_T = TypeVar("_T")

_OPEN, _READING, _INFERRING, _REFUSED, _PACKING, _DONE = Stage

# The JSON before binary tensors is shifted, so that they lie as numpy and the frameworks want them.
_ALIGNMENT = 64


class Head(NamedTuple):
    """What of a request is known before its body.

    limit  how many bytes the body may have, of the kind `what`
    sent   the headers as they came
    """

    route: Route
    headers: Headers
    limit: int
    what: str
    sent: Sequence[tuple[bytes, bytes]]


def read_head(route: Route, headers: Sequence[tuple[bytes, bytes]], limits: Limits) -> Head:
    """Raises ModelportError, for a body that is known to be too large, too."""
    read = read_headers(headers)
    limit, what = route.dialect.limit(read, limits)
    if read.content_length is not None and read.content_length > limit:
        raise TooLarge(f"the body has {read.content_length} bytes, over the limit of {limit} for {what}")
    return Head(route, read, limit, what, headers)


class Connection(Protocol):
    """What an exchange needs of its connection. access: None where everything is allowed."""

    access: Access | None

    def caller(self, headers: Sequence[tuple[bytes, bytes]]) -> Caller:
        """Who sent these."""

    def ask_for_body(self) -> None:
        """The client waits with its body for "100 Continue"."""

    def answer(self, reply: Reply, keep_alive: bool) -> None:
        """Write it; the connection may then take another request, or is closed."""

    def refuse(self, reply: Reply) -> None:
        """Write it, and close: the body has not come whole, and nobody wants the rest."""


class Exchange:
    """Its states are in states.py: Stage.

    `response_complete` and `keep_alive` are what uvicorn asks of a request under way; the former says DONE.
    """

    __slots__ = (
        "_buffer", "_caller", "_chunks", "_connection", "_encoding", "_engine", "_expects_continue", "_filled",
        "_handle", "_has_turn", "_head", "_limits", "_reply", "_reservation", "_route", "_stage", "_whole", "_write",
        "keep_alive", "response_complete",
    )  # fmt: skip

    def __init__(
        self, engine: Engine, limits: Limits, connection: Connection, keep_alive: bool, expects_continue: bool = False
    ) -> None:
        self.keep_alive = keep_alive
        self.response_complete = False
        self._engine, self._limits, self._connection = engine, limits, connection
        self._expects_continue = expects_continue
        self._chunks: list[bytes] = []
        self._buffer: memoryview | None = None
        self._filled = 0
        self._stage = _OPEN
        self._whole = self._has_turn = False
        self._handle: RequestHandle | None = None
        # The content-coding of its answer; "" for none.
        self._encoding = ""

    def open(self, head: Head | Exception, route: Route, sent: Sequence[tuple[bytes, bytes]]) -> None:
        """The head has come, or was refused; `sent` are its headers."""
        self._route = route
        self._reservation = self._engine.reserve_body(route.model, route.version)
        try:
            access = self._connection.access
            if access is not None:
                self._caller = self._connection.caller(sent)
                if route.model:  # else its body names the model: see _submit
                    access.check("infer", route.model, self._caller)
            if isinstance(head, Exception):
                raise head
            self._head = head
            if head.headers.accept_encoding:
                self._encoding = choose_encoding(head.headers.accept_encoding)
            length = head.headers.content_length
            if length is not None:
                self._reservation.reserve(length)
                if length >= MIN_ARENA_BYTES and not head.headers.encoding:
                    shift = -(head.headers.json_length or 0) % _ALIGNMENT
                    self._buffer = self._engine.buffer(length + shift)[shift : shift + length]
        except Exception as error:
            self.fail(error)

    @property
    def waits_for_body(self) -> bool:
        return not self._whole and self._stage is _OPEN

    def space(self) -> memoryview | None:
        """Where what comes next of a large body belongs; None if it must go through the parser."""
        if self._buffer is None or not self._filled:
            return None
        return self._buffer[self._filled :] or None

    def filled(self, size: int) -> bool:
        """So much has been written there; whether the body is whole."""
        self._filled += size
        assert self._buffer is not None
        return self._filled == len(self._buffer)

    def on_body(self, chunk: bytes) -> None:
        if self._stage is not _OPEN:
            return
        size = len(chunk)
        if self._buffer is not None:
            self._buffer[self._filled : self._filled + size] = chunk
            self._filled += size
            return
        self._filled += size
        self._chunks.append(chunk)
        head = self._head
        if head.headers.content_length is None:
            try:
                if self._filled > head.limit:
                    raise TooLarge(f"the body is over the limit of {head.limit} bytes for {head.what}")
                self._reservation.reserve(size)
            except ModelportError as error:
                self.fail(error)

    def on_whole(self) -> None:
        """All of the body has come."""
        self._whole = True
        if self._has_turn and self._stage is _OPEN:
            self._run()

    def start(self) -> None:
        """The requests before it on its connection are answered."""
        self._has_turn = True
        if self._stage is _REFUSED:
            self._send(self._reply)
        elif self._whole:
            self._run()
        elif self._expects_continue:
            self._connection.ask_for_body()

    def tell(self, error: ModelportError) -> bytes:
        """An error in the words of its dialect."""
        return self._route.dialect.tell(error)

    def abandon(self) -> None:
        """The client has gone."""
        stage = self._stage
        if stage is _DONE:
            return
        self._stage, self.response_complete = _DONE, True
        self._chunks, self._buffer = [], None  # the connection refers to this, and this to the connection
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()
        elif stage is _OPEN:  # in READING, the thread's end closes it
            self._reservation.close(ClientDisconnected())

    def _run(self) -> None:
        headers = self._head.headers
        # One client must not see another's bytes. The buffer of a large body is a block of the arena, which is used
        # again and again and never cleared: what this client has not overwritten is still what others sent. Content-
        # Length says how large the block is, but the parser may end the body earlier, such as with a last chunk. The
        # rest of the block would then go to the model as this client's input, and could come back in its answer. So
        # nothing reads the block unless exactly as many bytes were written to it as it has.
        if headers.content_length not in (None, self._filled):
            self.fail(InvalidRequest("the body has not the length that its Content-Length says; send it again"))
            return
        body: Buffer = self._buffer if self._buffer is not None else b""
        if self._chunks:
            body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._buffer, self._chunks = None, []  # while the request waits, only its tensors are kept
        if headers.encoding:
            unpack = partial(inflate, body, headers.encoding, self._head.limit, self._head.what)
            self._in_thread(_READING, unpack, self._unpacked, self.fail)
        else:
            self._read(body)

    def _unpacked(self, body: bytes) -> None:
        try:
            self._reservation.reserve(len(body))
        except ModelportError as error:
            self.fail(error)
        else:
            self._read(body)

    def _read(self, body: Buffer) -> None:
        route, headers = self._head.route, self._head.headers
        read = partial(route.dialect.read, self._engine, self._limits, route, headers, body)
        if route.dialect.is_slow(headers, body):
            self._in_thread(_READING, partial(_read_large, read), self._submit, self.fail)
            return
        try:
            made = read()
        except Exception as error:
            self.fail(error)
        else:
            self._submit(made)

    def _in_thread(
        self, stage: Stage, work: Callable[[], _T], then: Callable[[_T], None], fail: Callable[[Exception], None]
    ) -> None:
        """What takes milliseconds would stop the event loop. Its room is taken until the thread has let go of it."""
        self._stage = stage

        def unless_gone() -> _T:
            if self._stage is _DONE:
                raise ClientDisconnected
            return work()

        def done(future: asyncio.Future[_T]) -> None:
            error = future.exception()
            if self._stage is _DONE:
                if stage is _READING:
                    self._reservation.close(ClientDisconnected())
            elif error is None:
                then(future.result())
            else:
                fail(error if isinstance(error, Exception) else ClientDisconnected())

        asyncio.get_running_loop().run_in_executor(None, unless_gone).add_done_callback(done)

    def _submit(self, made: tuple[InferRequest, Writer]) -> None:
        request, self._write = made
        self._reservation.close()
        self._stage = _INFERRING
        try:
            access = self._connection.access
            if access is not None and not self._route.model:
                access.check("infer", request.model, self._caller)
            self._handle = self._engine.submit(request, self._on_done)
        except Exception as error:
            self._send(self._refusal(error))

    def _on_done(self, outcome: InferResponse | Exception) -> None:
        """HTTP has one answer to a request, which is the final one."""
        if not isinstance(outcome, Exception) and not outcome.final:
            return
        self._handle = None  # which refers to this exchange: the collector of cycles shall have nothing to do
        try:
            reply = self._refusal(outcome) if isinstance(outcome, Exception) else self._write(outcome)
        except Exception as error:
            reply = self._refusal(error)
        self._send(reply)

    def fail(self, error: Exception) -> None:
        """It ends before the engine has it."""
        self._reservation.close(error)
        self._chunks, self._buffer = [], None
        self._stage, self._reply = _REFUSED, self._refusal(error)
        if self._has_turn:
            self._send(self._reply)

    def _refusal(self, error: Exception) -> Reply:
        told = as_told(error)
        retry = b"retry-after: %d\r\n" % told.retry_after_s if isinstance(told, Overloaded) else b""
        return Reply(told.status, [self.tell(told)], headers=retry)

    def _send(self, reply: Reply) -> None:
        if self._stage is _DONE:  # the client has gone
            return
        if self._encoding:
            reply = reply._replace(headers=reply.headers + b"vary: accept-encoding\r\n")
            size = sum([len(part) for part in reply.body])
            if size >= MIN_BYTES:
                pack = partial(_packed, reply, self._encoding)
                if size > MAX_INLINE and self._whole:
                    self._in_thread(_PACKING, pack, self._write_out, self._fail_to_pack)
                    return
                reply = pack()
        self._write_out(reply)

    def _fail_to_pack(self, error: Exception) -> None:
        self._write_out(self._refusal(error))

    def _write_out(self, reply: Reply) -> None:
        self._stage, self.response_complete = _DONE, True
        if self._whole:
            self._connection.answer(reply, self.keep_alive)
        else:
            self._connection.refuse(reply)


def _read_large(read: Callable[[], _T]) -> _T:
    with collections_paused():
        return read()


def _packed(reply: Reply, encoding: str) -> Reply:
    if not is_worth(reply.body):
        return reply
    told = b"content-encoding: %b\r\n" % encoding.encode()
    return reply._replace(body=[deflate(reply.body, encoding)], headers=reply.headers + told)
