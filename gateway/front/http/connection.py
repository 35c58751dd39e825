"""One connection of a front's HTTP server: see server.py."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.domain.caller import Event
from gateway.domain.identity import Identity
from gateway.domain.request_record import CANCELLED, RequestRecord
from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.errors import InvalidRequest, ModelportError
from gateway.front.base import body
from gateway.front.base.access import CERTIFICATE, Access, http_caller
from gateway.front.base.dialect import EVENTS, MAX_JOINED_BYTES, WITHOUT_CONTENT, Reply, Route, encode_error
from gateway.front.base.records import head_record, http_record
from gateway.front.base.request_ids import RECORD, header_id, header_line
from gateway.front.http.head_cache import MAX_HEAD_LENGTH
from gateway.front.http.hot_request import Head, HotRequest, read_head
from gateway.front.http.open_connections import UNREAD_TIMEOUT_S
from gateway.front.http.shared_state import SharedState
from gateway.front.http.states import Answering, Receiving
from gateway.front.http.upgrade import without_upgrade

_T = TypeVar("_T")
_AT_BOUNDARY, _HEAD, _BODY, _UPGRADE, _BROKEN = Receiving
_READY, _DRAINING_PIPELINE, _WRITE_BLOCKED, _CLOSING = Answering

_HEAD_END = b"\r\n\r\n"
# httptools itself would collect headers without limit. Node.js allows 16 KiB, nginx 32 KiB. A lower limit rejects
# requests with long cookies or tokens; a higher one is memory that each connection can claim without a valid request.
_MAX_HEAD_BYTES = 1 << 16
# Chunks have heads too, with extensions of any length, which count against _MAX_HEAD_BYTES. Each byte of the body
# allows this many bytes of them. The shortest chunk needs 5 ("1\r\n" and "\r\n"), so even a body of one-byte chunks
# stays below the limit.
_MAX_CHUNK_OVERHEAD = 16

_NO_PROTOCOL = asyncio.BufferedProtocol()


class HttpConnection(HttpToolsProtocol):
    """uvicorn's protocol, except that a request to a hot path is a HotRequest instead of uvicorn's own cycle.

    states.py has its states: Receiving and Answering. `cycle`, which uvicorn defines, is the request received last;
    `_running` is the request started last. The compiled path (fast_path.pyx) reads and writes what is public here.
    """

    cycle: Any
    # None if the parser used last has not seen the bytes received last.
    parser: Any

    def __init__(self, shared: SharedState, certificate: Sequence[str] = (), **arguments: Any) -> None:
        """`certificate`: the names in the client's."""
        super().__init__(**arguments)
        self._shared, self._certificate = shared, certificate
        self.heads = shared.heads_of(certificate)
        # The time of the last read or answer; the time when the request being received began.
        self.last_active = self._began = self.loop.time()
        # The same as _began, but exact (see RequestRecord); 0 if nobody observes requests.
        self._arrived = 0.0
        # The bytes of the request being received; those of its head and chunk heads: see _MAX_CHUNK_OVERHEAD.
        self._received = self._overhead = 0
        self._running: Any = None
        self.receiving = _AT_BOUNDARY
        self._answering = _READY
        # The text of the head with which the current read begins, or b"" if it does not begin with a whole head.
        self._head_text = b""
        # While the parser raises HttpParserUpgrade: the same head without the offer.
        self._head_without_upgrade = b""
        # HTTP/1.0 clients keep the connection only if the answer confirms it.
        self.confirms_keep_alive = False
        self._is_counted = False
        # The bytes that the client has not read at the last check, and the time of the first check that found as many.
        self._last_unread, self._unread_since = 0, 0.0
        # While an answer that consists of events is sent: what to call when the client can be sent more; whether they
        # are chunks, which clients of HTTP/1.0 do not know.
        self._on_writable: Callable[[], None] | None = None
        self._is_chunked = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        try:
            self._shared.open_connections.add(self, self._peer_host, self.connections)
            self._is_counted = True
        except ModelportError as error:
            self.receiving, self._answering = _BROKEN, _CLOSING
            if self._shared.observer is not None:
                self._record(b"", "", (), time.monotonic()).end(error.status, error.kind)
            self._write(Reply(error.status, [encode_error(error)], headers=b"retry-after: 1\r\n"), keep_alive=False)
            transport.close()

    @property
    def _peer_host(self) -> str:
        return self.client[0] if self.client else ""

    @property
    def idle_since(self) -> tuple[bool, float] | None:
        """Whether a request was ever received, and since when none is in progress; None if one is."""
        cycle = self.cycle
        if self.transport.is_closing() or not (cycle is None or cycle.response_complete):
            return None
        if self.receiving is _AT_BOUNDARY:
            return cycle is not None, self.last_active
        return (cycle is not None, self._began) if self.receiving is _HEAD else None

    def evict(self) -> None:
        """Close the connection to make room for another. It counts no more."""
        self._uncount()
        self.transport.abort()

    @property
    def unread_bytes(self) -> int:
        """What was written, and the system did not take yet."""
        return self.transport.get_write_buffer_size()

    def _uncount(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._shared.open_connections.remove(self, self._peer_host)

    def receive_buffer(self) -> memoryview | None:
        """Where to receive the next bytes if they belong to a large body, otherwise None."""
        if self.receiving is not _BODY:  # `cycle` is an earlier request
            return None
        cycle = self.cycle
        return cycle.receive_buffer() if type(cycle) is HotRequest else None

    def buffer_filled(self, size: int) -> HotRequest | None:
        """Note that `size` bytes were received into `receive_buffer`.

        Return the request whose body they complete. The caller calls its `on_body_complete`.
        """
        self.last_active = self.loop.time()
        self._received += size
        request: HotRequest = self.cycle
        if not request.buffer_filled(size):
            return None
        self.parser = None  # it did not see these bytes and still expects them
        self.receiving = _AT_BOUNDARY
        return request

    def data_received(self, data: bytes) -> None:
        head_text = b""
        if self.receiving is _AT_BOUNDARY:
            if len(data) < MIN_ARENA_BYTES:
                head_text, end, rest = data.partition(_HEAD_END)
                cycle = self.cycle
                if not end:
                    head_text = b""
                elif cycle is None or cycle.response_complete:
                    head = self.heads.find(head_text, len(rest))
                    if head is not None:  # most requests: the head is cached, and the body has arrived with it
                        request = self._running = self.cycle = self._hot_request(head_text, head)
                        request.serve(head, rest)
                        return
            else:
                head_text = data[: max(data.find(_HEAD_END, 0, MAX_HEAD_LENGTH + len(_HEAD_END)), 0)]
            if head_text and self._receive_cached(head_text, data):
                return
        elif self.receiving is _BROKEN:
            return
        else:
            self.last_active = self.loop.time()
            self._received += len(data)
            if self.parser is None:
                return  # the rest of a body whose request has failed
            self._overhead += len(data)
        self._head_text = head_text if len(head_text) <= MAX_HEAD_LENGTH else b""
        self._parse(data)
        if self._overhead > _MAX_HEAD_BYTES and self.receiving not in (_AT_BOUNDARY, _BROKEN):
            self._break_off(431, f"the headers are over the limit of {_MAX_HEAD_BYTES} bytes")

    def _parse(self, data: bytes) -> None:
        if self.parser is None:
            self.parser = self._new_parser()
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if not self._head_without_upgrade:  # CONNECT: the following bytes are not HTTP
                    return
                # A server may ignore an offer (RFC 9110, section 7.8), but httptools would treat the body as data of
                # the other protocol. So a new parser gets the request without the offer.
                data = self._head_without_upgrade + data[upgrade.args[0] :]
                self._head_without_upgrade = b""
                self.parser = self._new_parser()
            except httptools.HttpParserError:
                self._break_off(400, "the request is not valid HTTP, or its body is longer than its Content-Length")
                return
            else:
                return

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _receive_cached(self, head_text: bytes, data: bytes) -> bool:
        """Begin the request that `data` begins, if its head is cached and its body is large. No parser sees it."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        begin = memoryview(data)[len(head_text) + len(_HEAD_END) :]
        head = self.heads.find_large(head_text, len(begin))
        if head is None:
            return False
        self.receiving, self.parser = _BODY, None
        self.last_active = self._began = self.loop.time()
        self._received, self._overhead = len(begin), 0
        request = self._running = self.cycle = self._hot_request(head_text, head)
        request.open(head, head.route, head.identity)
        request.start()
        request.on_body(begin)
        return True

    def _hot_request(self, head_text: bytes, head: Head) -> HotRequest:
        """Return a request whose head is cached. It begins with what was read just now."""
        shared, record = self._shared, None
        if shared.observer is not None:
            record = head_record(shared.observer, head_text, head.route.path, self.client, time.monotonic())
        return HotRequest(shared.engine, shared.limits, self, True, False, record, head.request_id, head.cors)

    def record_of(self, head_text: bytes, head: Head, size: int, arrived: float, id: str) -> RequestRecord:
        """Return the record of a request that the compiled path has taken. `size`: of the body, which has arrived."""
        assert self._shared.observer is not None
        record = head_record(self._shared.observer, head_text, head.route.path, self.client, arrived)
        record.received, record.bytes_in = arrived, size
        record.name(head.route.model, head.route.version, id, head.identity)
        return record

    def _record(
        self, method: bytes, path: str, headers: Sequence[tuple[bytes, bytes]], arrived: float
    ) -> RequestRecord:
        """Called only if there is an observer."""
        assert self._shared.observer is not None
        return http_record(self._shared.observer, method, path, self.client, headers, arrived)

    def connection_lost(self, exc: Exception | None) -> None:
        self._uncount()
        self._abandon()
        if _is_hot(self.cycle):
            self.cycle = None
        self._running = self._on_writable = None  # they refer back: without the cycle, the collector is not needed
        if self.scheme == "https":
            # uvloop's TLS keeps methods of the protocol, which is another cycle.
            self.transport.set_protocol(_NO_PROTOCOL)
        super().connection_lost(exc)

    def _abandon(self) -> None:
        """End all requests on this connection without an answer."""
        for cycle in (self._running, self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if _is_hot(cycle):
                cycle.abandon()
            elif cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()

    def on_message_begin(self) -> None:
        # uvicorn's own on_message_begin is called later, by _open_cold, for the requests that need it.
        self.receiving = _HEAD
        self.last_active = self._began = self.loop.time()
        self._received = self._overhead = 0
        if self._shared.observer is not None:
            self._arrived = time.monotonic()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.receiving is _HEAD:  # trailers of a chunked body are ignored
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version, method = self.parser.get_http_version(), self.parser.get_method()
        if self.parser.should_upgrade() and method != b"CONNECT":
            self.receiving = _UPGRADE
            self._head_without_upgrade = without_upgrade(method, self.url, version, self.headers)
            return
        self.receiving = _BODY
        # Only the first request in one read may use it: it is the text of that request's head.
        head_text, self._head_text = self._head_text, b""
        route = self._shared.route(self.url)
        keep_alive = self.parser.should_keep_alive() and method != b"CONNECT"
        if keep_alive and version == "1.0":
            self.confirms_keep_alive = True
        previous = self.cycle
        if previous is not None and type(previous) is not HotRequest and _is_hot(previous):
            self._running = previous  # the fast path does not set it, since most requests end before the next arrives
        if route is None or method not in route.dialect.methods:
            self._open_cold(keep_alive)
            return
        shared = self._shared
        record = None if shared.observer is None else self._record(method, route.path, self.headers, self._arrived)
        cors = self._cors_block()
        request = HotRequest(
            shared.engine,
            shared.limits,
            self,
            keep_alive,
            self.expect_100_continue,
            record,
            header_id(self.headers),
            cors,
        )
        head: Head | Exception
        identity: Identity | None = None
        try:
            if shared.access is not None:
                identity = self._identify(shared.access, route)
            head = read_head(route, self.headers, shared.limits, identity, cors)
            if keep_alive and head_text:
                self.heads.put(head_text, head, self.headers)
        except Exception as error:
            head = error
        request.open(head, route, identity)
        del head  # if it is an error, that refers to this frame, which would keep it, and the headers, in turn
        self.cycle = request
        if previous is None or previous.response_complete:
            self._running = request
            request.start()
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((request, self.app))  # type: ignore[arg-type]

    def _cors_block(self) -> bytes:
        """Return what an answer to the request with the headers received last has for a page of another origin."""
        cors = self._shared.cors
        return b"" if cors is None else cors.block(self.headers or ())

    def _identify(self, access: Access, route: Route) -> Identity:
        caller = http_caller(self.client, self.headers, self._certificate)
        try:
            return access.identify(caller)
        except ModelportError as error:
            access.record(Event("infer", route.model, caller.peer, "", route.path, error.kind))
            raise

    def _open_cold(self, keep_alive: bool) -> None:
        """Pass the request to uvicorn, which passes it to the admin app."""
        url, headers, expect_100_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect_100_continue
        self.headers += headers
        if self._certificate:
            self.scope[CERTIFICATE] = self._certificate  # type: ignore[literal-required]
        super().on_headers_complete()
        self.cycle.keep_alive = keep_alive and self._shared.keep_alive
        if self.cycle.keep_alive and self.confirms_keep_alive:
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"keep-alive")]

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body) * (1 + _MAX_CHUNK_OVERHEAD)
        if type(self.cycle) is HotRequest:
            self.cycle.on_body(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.receiving is _UPGRADE:
            return
        self.receiving = _AT_BOUNDARY
        if type(self.cycle) is not HotRequest:
            super().on_message_complete()
        elif self._answering is _CLOSING:
            self.transport.close()
        else:
            self.cycle.on_body_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        if type(cycle) is HotRequest:
            cycle.start()
        else:
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.last_active = self.loop.time()
        flow = self.flow
        if not (flow.write_paused or flow.read_paused or self.pipeline):
            return
        if flow.write_paused:
            # The client does not read its answers. Further ones would only pile up in memory.
            self._answering = _WRITE_BLOCKED
            self.flow.pause_reading()
        else:
            self._advance()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._shared.open_connections.on_unread(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.last_active = self.loop.time()
        self._shared.open_connections.on_read(self)
        if self._on_writable is not None:
            self._on_writable()
        if self._answering is _WRITE_BLOCKED:
            self._answering = _READY
            self._advance()

    def _advance(self) -> None:
        """Start the requests that wait behind the one just answered."""
        if not self.pipeline and not self.flow.read_paused:
            return
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._answering is not _READY:
            return
        # A request that is answered immediately calls this method again, from within its start. The loop keeps such
        # calls from nesting: a client can pipeline more requests than Python's recursion limit allows.
        self._answering = _DRAINING_PIPELINE
        try:
            while self.pipeline and self._answering is _DRAINING_PIPELINE and not self.transport.is_closing():
                cycle, app = self.pipeline.pop()
                self._start_asgi_task(cycle, app)
                if not cycle.response_complete:
                    break
        finally:
            if self._answering is _DRAINING_PIPELINE:
                self._answering = _READY

    def check_timeouts(self, now: float) -> None:
        """Called regularly. Ends a connection that is idle for too long, or receives or reads too slowly."""
        if unread := self.unread_bytes:
            if unread != self._last_unread:
                self._last_unread, self._unread_since = unread, now
            elif now - self._unread_since > UNREAD_TIMEOUT_S:
                self.transport.abort()
                return
        else:
            self._last_unread = 0
        cycle, silence = self.cycle, now - self.last_active
        if self.receiving is _AT_BOUNDARY:
            if silence > self.timeout_keep_alive and not unread and (cycle is None or cycle.response_complete):
                self.transport.close()
            return
        if self.receiving is _BROKEN:
            return
        if self.flow.read_paused:  # this server does not read, so the client is not to blame
            self.last_active = self._began = now
            self._received = 0
            return
        limits, elapsed = self._shared.limits, now - self._began
        if self.receiving is _HEAD:
            if elapsed > limits.header_timeout_s:
                self._break_off(408, f"the headers did not arrive within {limits.header_timeout_s:g} s")
        elif limits.is_too_slow(self._received, elapsed):
            self._reject_body(
                f"the body arrived too slowly, below {limits.min_body_rate} bytes a second; send it again"
            )
        elif silence > body.BODY_IDLE_TIMEOUT_S and type(cycle) is HotRequest:
            self._reject_body("the body stopped arriving before it was complete; send it again")

    def _reject_body(self, reason: str) -> None:
        if type(self.cycle) is not HotRequest:
            self._break_off(408, reason)
        elif self.cycle.waits_for_body:
            self.cycle.fail(InvalidRequest(reason))

    def _break_off(self, status: int, reason: str) -> None:
        """Answer that the rest cannot be read, abandon all requests on this connection, and close it."""
        cycle = self.cycle
        is_running = cycle is not None and not cycle.response_complete
        record = self._record_of_broken(cycle if is_running else None, status)
        request_id = self._id_of_broken(cycle if is_running else None) if record is None else record.request_id.encode()
        self.receiving = _BROKEN
        has_begun = self._on_writable is not None or (is_running and not _is_hot(cycle) and cycle.response_started)
        self._abandon()
        if self._answering is _CLOSING or has_begun or self.transport.is_closing():
            self.transport.close()
            if record is not None and record.status:
                record.end(0, CANCELLED)
            return
        encode = cycle.encode_error if is_running and _is_hot(cycle) else encode_error
        answer = encode(InvalidRequest(reason))
        headers = header_line(request_id) if request_id else b""
        self.reject(Reply(status, [answer], headers=headers + self._cors_block()))
        if record is not None:
            record.end(status, InvalidRequest.kind, len(answer))

    def _record_of_broken(self, running: Any, status: int) -> RequestRecord | None:
        """Return the record of a request that is broken off: the one that is running, or one that is being received."""
        if self._shared.observer is None:
            return None
        record: RequestRecord | None = None
        if running is not None and _is_hot(running):
            record = running.record
            if record is not None:
                record.status = status  # so that `abandon` does not end it
        elif running is not None:
            record = running.scope.get(RECORD)
        if record is None and self.receiving is _HEAD and self.url:
            path = self.url.partition(b"?")[0].decode("latin-1")
            return self._record(self.parser.get_method(), path, self.headers, self._arrived)
        return record or self._record(b"", "", (), time.monotonic())

    def _id_of_broken(self, running: Any) -> bytes:
        if running is None:
            return header_id(self.headers) if self.receiving is _HEAD else b""
        return running.request_id or b"" if _is_hot(running) else header_id(running.scope["headers"])

    # The Connection of a HotRequest.

    def check(self, identity: Identity, model: str, path: str) -> None:
        try:
            identity.check("infer", model)
        except ModelportError as error:
            self.record_refusal(identity, model, path, error)
            raise

    def record_refusal(self, identity: Identity, model: str, path: str, error: ModelportError) -> None:
        assert self._shared.access is not None
        peer = http_caller(self.client, ()).peer
        self._shared.access.record(Event("infer", model, peer, identity.name, path, error.kind))

    def ask_for_body(self) -> None:
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def in_thread(self, work: Callable[[], _T], then: Callable[[_T], None], fail: Callable[[Exception], None]) -> None:
        self._shared.threads.submit(work, then, fail)

    def answer(self, reply: Reply, keep_alive: bool) -> None:
        if self.transport.is_closing():
            return
        keep_alive = keep_alive and self._shared.keep_alive
        self._write(reply, keep_alive)
        if keep_alive:
            self.on_response_complete()
        else:
            self.transport.close()

    def begin_events(self, headers: bytes, keep_alive: bool, on_writable: Callable[[], None]) -> None:
        self._on_writable = on_writable
        is_old = self.confirms_keep_alive or (self.parser is not None and self.parser.get_http_version() == "1.0")
        self._is_chunked = not is_old
        prefix = self._shared.response_prefix(200, EVENTS, self.server_state.default_headers)
        head = prefix + headers
        if self._is_chunked:
            head += b"transfer-encoding: chunked\r\n"
        if is_old or not (keep_alive and self._shared.keep_alive):
            head += b"connection: close\r\n"
        self.transport.write(head + b"\r\n")

    def send(self, data: bytes) -> bool:
        if not self.transport.is_closing():
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
        return not self.flow.write_paused

    def end_events(self, data: bytes, keep_alive: bool) -> None:
        self._on_writable = None
        if data:
            self.send(data)
        if self.transport.is_closing():
            return
        if self._is_chunked:
            self.transport.write(b"0\r\n\r\n")
        if keep_alive and self._shared.keep_alive and self._is_chunked:
            self.on_response_complete()
        else:
            self.transport.close()

    def reject(self, reply: Reply) -> None:
        self._answering = _CLOSING
        self._write(reply, keep_alive=False)
        # Closing a socket that has unread bytes resets the connection, and the client may lose the answer
        # (RFC 9112, section 9.6).
        self.loop.call_later(body.LINGER_S, self.transport.close)

    def _write(self, reply: Reply, keep_alive: bool) -> None:
        status, parts, content_type, headers = reply
        size = len(parts[0]) if len(parts) == 1 else sum([len(part) for part in parts])
        prefix = self._shared.response_prefix(status, content_type, self.server_state.default_headers)
        if not keep_alive:
            headers += b"connection: close\r\n"
        elif self.confirms_keep_alive:
            headers += b"connection: keep-alive\r\n"
        length = b"" if status in WITHOUT_CONTENT else b"content-length: %d\r\n" % size
        head = b"%b%b%b\r\n" % (prefix, length, headers)
        if size < MAX_JOINED_BYTES:
            self.transport.write(b"".join([head, *parts]))
        else:
            self.transport.writelines([head, *parts])


def _is_hot(cycle: Any) -> bool:
    """Whether this is a HotRequest, or a request of the fast path, which has the same methods."""
    return hasattr(cycle, "abandon")
