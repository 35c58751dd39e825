"""One connection of a front's HTTP server: see server.py."""

from collections.abc import Sequence
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.errors import InvalidRequest
from gateway.front.base import body
from gateway.front.base.access import Caller, http_caller
from gateway.front.base.dialect import Reply, tell
from gateway.front.http.exchange import Exchange, Head, read_head
from gateway.front.http.offer import without_offer
from gateway.front.http.shared import MAX_HEAD_LENGTH, Shared
from gateway.front.http.states import Answering, Receiving

_BETWEEN, _HEAD, _BODY, _OFFER, _BROKEN = Receiving
_FREE, _ADVANCING, _HELD_BACK, _REFUSED = Answering

# What may change where a body ends, or whether it comes at all.
_SPECIAL = {b"transfer-encoding", b"expect", b"upgrade", b"connection"}
# What names one request or its trace: a head with one of these never comes again, and would only push out others.
_UNIQUE = {
    b"traceparent", b"tracestate", b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid",
    b"x-request-id", b"request-id", b"x-correlation-id", b"x-amzn-trace-id", b"x-cloud-trace-context",
    b"uber-trace-id", b"sentry-trace", b"x-datadog-trace-id", b"x-datadog-parent-id", b"ce-id", b"idempotency-key",
}  # fmt: skip
_NOT_KEPT = _SPECIAL | _UNIQUE
_END = b"\r\n\r\n"
# Nobody needs more, and httptools would collect any number.
_MAX_HEAD_BYTES = 1 << 16
# Chunks have heads too: of so many bytes for each byte of the body, which those of one byte each stay below.
_MAX_CHUNK_OVERHEAD = 16
# Parts larger than this are not copied together to be written.
_LARGE_PART = 1 << 14


class HttpConnection(HttpToolsProtocol):
    """uvicorn's protocol, whose cycle is an Exchange where the path is hot.

    Its states are in states.py: Receiving and Answering. `cycle`, which is uvicorn's, is the request that
    came last; `_running` is the hot one whose turn came last.
    """

    cycle: Any

    def __init__(self, shared: Shared, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._shared, self._heads = shared, shared.heads.entries
        self.access = shared.access
        # When something last came or was answered; when the request that is being received began, and its bytes so far.
        self._heard = self._begun = self.loop.time()
        self._received = self._overhead = 0
        self._running: Exchange | None = None
        self._receiving = _BETWEEN
        self._answering = _FREE
        # If what has just come begins with a head, that head.
        self._head_text = b""
        # The head of a request that offers another protocol, without that offer.
        self._without_offer = b""
        self._confirms_keep_alive = False

    def space(self) -> memoryview | None:
        """Where the next bytes belong, if they are of a large body."""
        cycle = self.cycle
        return cycle.space() if type(cycle) is Exchange else None

    def filled(self, size: int) -> None:
        """They were received there."""
        self._heard = self.loop.time()
        self._received += size
        if self.cycle.filled(size):
            # The old parser still waits for what it has not seen.
            self.parser = self._new_parser()
            self._receiving = _BETWEEN
            self.cycle.on_whole()

    def data_received(self, data: bytes | memoryview) -> None:
        if self._receiving is _BROKEN:
            return
        self._head_text = b""
        if self._receiving is _BETWEEN:
            if len(data) < MIN_ARENA_BYTES:
                text = bytes(data)
                head_text, end, rest = text.partition(_END)
                head = self._heads.get(head_text)
                idle = self.cycle is None or self.cycle.response_complete
                if head is not None and idle and head.headers.content_length == len(rest):
                    self._take(head, rest)
                    return
                self._head_text = head_text if end and len(head_text) <= MAX_HEAD_LENGTH else b""
        else:
            self._heard = self.loop.time()
            self._received += len(data)
            self._overhead += len(data)
        self._parse(data)
        if self._overhead > _MAX_HEAD_BYTES and self._receiving not in (_BETWEEN, _BROKEN):
            self._break(431, f"the headers are over the limit of {_MAX_HEAD_BYTES} bytes")

    def _parse(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if not self._without_offer:  # CONNECT: what follows is no HTTP
                    return
                # An offer may be ignored (RFC 9110, 7.8), but httptools takes the body for the other protocol's.
                data = self._without_offer + data[offer.args[0] :]
                self._without_offer = b""
                self.parser = self._new_parser()
            except httptools.HttpParserError:
                self._break(400, "the request is not valid HTTP, or its body is longer than its Content-Length")
                return
            else:
                return

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _take(self, head: Head, body: bytes) -> None:
        """A whole request, of which the head was seen before."""
        exchange = self._running = self.cycle = Exchange(self._shared.engine, self._shared.limits, self, True)
        exchange.open(head, head.route, head.sent)
        exchange.on_body(body)
        exchange.on_whole()
        exchange.start()

    def connection_lost(self, exc: Exception | None) -> None:
        self._abandon()
        if type(self.cycle) is Exchange:
            self.cycle = None
        super().connection_lost(exc)

    def _abandon(self) -> None:
        for cycle in (self._running, self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if type(cycle) is Exchange:
                cycle.abandon()
            elif cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()

    def on_message_begin(self) -> None:
        # What uvicorn prepares here is made up for in on_headers_complete, where it is wanted.
        self._receiving = _HEAD
        self._heard = self._begun = self.loop.time()
        self._received = self._overhead = 0
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._receiving is _HEAD:  # what comes behind a body of chunks says nothing to us
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version, method = self.parser.get_http_version(), self.parser.get_method()
        if self.parser.should_upgrade() and method != b"CONNECT":
            self._receiving = _OFFER
            self._without_offer = without_offer(method, self.url, version, self.headers)
            return
        self._receiving = _BODY
        # It was that of the first request in what was received.
        head_text, self._head_text = self._head_text, b""
        route = self._shared.route(self.url)
        keep_alive = self.parser.should_keep_alive() and method != b"CONNECT"
        if keep_alive and version == "1.0":
            self._confirms_keep_alive = True
        if route is None or method not in route.dialect.methods:
            self._open_cold(keep_alive)
            return
        exchange = Exchange(self._shared.engine, self._shared.limits, self, keep_alive, self.expect_100_continue)
        head: Head | Exception
        try:
            head = read_head(route, self.headers, self._shared.limits)
            if keep_alive and head_text and _may_come_again(head, self.headers):
                self._shared.heads.put(head_text, head)
        except Exception as error:
            head = error
        exchange.open(head, route, self.headers)
        previous, self.cycle = self.cycle, exchange
        if previous is None or previous.response_complete:
            self._running = exchange
            exchange.start()
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]

    def _open_cold(self, keep_alive: bool) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()
        self.cycle.keep_alive = keep_alive and self._shared.keeps_alive
        if self.cycle.keep_alive and self._confirms_keep_alive:
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"keep-alive")]

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body) * (1 + _MAX_CHUNK_OVERHEAD)
        if type(self.cycle) is Exchange:
            self.cycle.on_body(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._receiving is _OFFER:
            return
        self._receiving = _BETWEEN
        if type(self.cycle) is not Exchange:
            super().on_message_complete()
        elif self._answering is _REFUSED:
            self.transport.close()
        else:
            self.cycle.on_whole()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if type(cycle) is Exchange:
            self._running = cycle
            cycle.start()
        else:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._heard = self.loop.time()
        if self.flow.write_paused:
            # Who does not take its answers gets no more of them.
            self._answering = _HELD_BACK
            self.flow.pause_reading()
        else:
            self._advance()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answering is _HELD_BACK:
            self._answering = _FREE
            self._advance()

    def _advance(self) -> None:
        """The next requests get their turn."""
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._answering is not _FREE:
            return
        # A loop: requests that are answered at once, one within the other, would be too deep for Python.
        self._answering = _ADVANCING
        try:
            while self.pipeline and self._answering is _ADVANCING and not self.transport.is_closing():
                cycle, app = self.pipeline.pop()
                self._start_asgi_task(cycle, app)
                if not cycle.response_complete:
                    break
        finally:
            if self._answering is _ADVANCING:
                self._answering = _FREE

    def look(self, now: float) -> None:
        """Called from time to time, to end a connection on which nothing comes any more, or too slowly."""
        cycle, silent = self.cycle, now - self._heard
        if self._receiving is _BETWEEN:
            if silent > self.timeout_keep_alive and (cycle is None or cycle.response_complete):
                self.transport.close()
            return
        if self._receiving is _BROKEN:
            return
        if self.flow.read_paused:  # then it is we who take nothing
            self._heard = self._begun = now
            self._received = 0
            return
        limits, elapsed = self._shared.limits, now - self._begun
        if self._receiving is _HEAD:
            if elapsed > limits.header_timeout_s:
                self._break(408, f"the headers did not come within {limits.header_timeout_s:g} s")
        elif limits.is_too_slow(self._received, elapsed):
            self._end_body(f"the body came too slowly, below {limits.min_body_rate} bytes a second; send it again")
        elif silent > body.PAUSE_S and type(cycle) is Exchange:
            self._end_body("the body stopped coming before its end; send it again")

    def _end_body(self, reason: str) -> None:
        if type(self.cycle) is not Exchange:
            self._break(408, reason)
        elif self.cycle.waits_for_body:
            self.cycle.fail(InvalidRequest(reason))

    def _break(self, status: int, reason: str) -> None:
        """Answer that what comes cannot be read on, and close; whatever is under way on this connection is given up."""
        self._receiving = _BROKEN
        cycle = self.cycle
        is_under_way = cycle is not None and not cycle.response_complete
        has_begun = is_under_way and type(cycle) is not Exchange and cycle.response_started
        self._abandon()
        if self._answering is _REFUSED or has_begun or self.transport.is_closing():
            self.transport.close()
            return
        say = cycle.tell if is_under_way and type(cycle) is Exchange else tell
        self.refuse(Reply(status, [say(InvalidRequest(reason))]))

    # What an Exchange needs.

    def caller(self, headers: Sequence[tuple[bytes, bytes]]) -> Caller:
        return http_caller(self.client, headers)

    def ask_for_body(self) -> None:
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def answer(self, reply: Reply, keep_alive: bool) -> None:
        if self.transport.is_closing():
            return
        keep_alive = keep_alive and self._shared.keeps_alive
        self._write(reply, keep_alive)
        if keep_alive:
            self.on_response_complete()
        else:
            self.transport.close()

    def refuse(self, reply: Reply) -> None:
        self._answering = _REFUSED
        self._write(reply, keep_alive=False)
        # A socket that is closed with unread bytes resets the connection, and the client may lose the answer.
        self.loop.call_later(body.LINGER_S, self.transport.close)

    def _write(self, reply: Reply, keep_alive: bool) -> None:
        size = sum([len(part) for part in reply.body])
        begin = self._shared.beginning(reply.status, reply.content_type, self.server_state.default_headers)
        persistence = b"connection: close\r\n"
        if keep_alive:
            persistence = b"connection: keep-alive\r\n" if self._confirms_keep_alive else b""
        head = b"%b%d\r\n%b%b\r\n" % (begin, size, reply.headers, persistence)
        if size < _LARGE_PART:
            self.transport.write(b"".join([head, *reply.body]))
        else:
            self.transport.writelines([head, *reply.body])


def _may_come_again(head: Head, headers: list[tuple[bytes, bytes]]) -> bool:
    """With a short body, which is over when as much has come as its one length says."""
    length = head.headers.content_length
    return length is not None and length < MIN_ARENA_BYTES and not any(name in _NOT_KEPT for name, _ in headers)
