"""Makes spans of records, with the attributes of OpenTelemetry's semantic conventions."""

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from gateway.domain.request_record import MAX_LENGTH, SUCCESS, RequestRecord
from gateway.errors import NotFound
from gateway.front.base.grpc_code import Code
from gateway.front.tracing import otlp
from gateway.front.tracing.parent import read_parent

_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
# In place of methods that clients made up.
_OTHER = "_OTHER"
# The codes for which a server's span is an error; others are the client's fault.
_SERVER_ERRORS = frozenset(
    {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS}
)
# By the number of a batch, the trace and the span of each request in it.
_Batches = dict[int, list[tuple[bytes, bytes]]]
# Of the neighbours in a batch. A link takes as much as a small span.
_MAX_LINKS = 16
# After so many requests, the event loop may run: 0.3 ms. With more, it waits longer for this thread, up to Python's
# switch interval of 5 ms; with fewer, the threads take turns more often, and spend more CPU time.
_MAX_UNINTERRUPTED = 8


def spans_of(records: Sequence[RequestRecord], scheme: str) -> list[bytes]:
    """Return the encoded spans of these requests. Those that shared a batch are linked.

    Each request has a span for the server, whose children are the steps of the request. `scheme`: http or https.
    """
    batches: _Batches = defaultdict(list)
    traces = [_Trace(record, batches) for record in records]
    offset = time.time_ns() - time.monotonic_ns()
    found: list[bytes] = []
    for number, trace in enumerate(traces):
        found += trace.spans(scheme, offset)
        if number % _MAX_UNINTERRUPTED == 0:
            time.sleep(0)
    return found


class _Trace:
    """Makes the spans of one request, and of those that were made for it.

    `batches`: of the records of all traces, for links. Each trace adds its own when it is created.
    """

    def __init__(self, record: RequestRecord, batches: _Batches) -> None:
        self.record = record
        self.id = bytes.fromhex(record.trace_id)
        self._batches = batches
        self._batch_ids = {each: _new_id() for each in _family(record) if each.batch}
        for each, own in self._batch_ids.items():
            batches[each.batch].append((self.id, own))
        self._offset = 0
        self._spans: list[bytes] = []

    def spans(self, scheme: str, offset: int) -> list[bytes]:
        """`offset`: from time.monotonic_ns() to nanoseconds since 1970."""
        record, server = self.record, _new_id()
        self._offset = offset
        parent = read_parent(record.traceparent)
        is_error = record.status >= 500 if record.protocol == "http" else record.status in _SERVER_ERRORS
        self._spans.append(
            otlp.span(
                self.id,
                server,
                bytes.fromhex(parent.span_id) if parent else b"",
                _name(record),
                self._ns(record.arrived),
                self._ns(record.written),
                _attributes(record, scheme),
                kind=otlp.SERVER,
                state=record.tracestate if parent else "",
                is_remote=parent is not None,
                is_error=is_error,
            )
        )
        if record.received > record.arrived:
            self._add("read", server, record.arrived, record.received)
        if record.answered:
            self._add_answering(server, record)
            self._add("write", server, record.answered, record.written)
        else:
            self._add_children(server, record)
        return self._spans

    def _add_answering(self, parent: bytes, record: RequestRecord) -> None:
        """Add what happened while a model had the request."""
        if not record.has_steps:
            self._add("queue", parent, record.queued, record.sent or record.answered)
            if record.sent:
                parent = self._add("worker", parent, record.sent, record.answered)
                if record.batch:
                    self._add_worker_steps(parent, record)
        self._add_children(parent, record)

    def _add_children(self, parent: bytes, record: RequestRecord) -> None:
        for child in record.children:
            own, end = _new_id(), max(child.arrived, child.answered)
            start_ns, end_ns = self._ns(child.arrived), self._ns(end)
            self._spans.append(otlp.span(self.id, own, parent, "call", start_ns, end_ns, _about_model(child)))
            if child.answered:
                self._add_answering(own, child)

    def _add_worker_steps(self, wall: bytes, record: RequestRecord) -> None:
        """Add what the worker did, by its durations. The time that is left is that of the two ways, half of it each."""
        make, own = otlp.span, self._batch_ids[record]
        links = [each for each in self._batches[record.batch] if each[1] != own][:_MAX_LINKS]
        batch_ns = record.compute_input_ns + record.compute_infer_ns + record.compute_output_ns
        ways_ns = int((record.answered - record.sent) * 1e9) - record.queue_ns - batch_ns
        arrived = self._ns(record.sent) + max(0, ways_ns) // 2
        began = arrived + record.queue_ns
        computed = began + record.compute_input_ns
        rows = {"modelport.batch.rows": record.batch_rows}
        self._spans += (
            make(self.id, _new_id(), wall, "worker.queue", arrived, began),
            make(self.id, own, wall, "batch", began, began + batch_ns, rows, links),
            make(self.id, _new_id(), own, "compute", computed, computed + record.compute_infer_ns),
        )

    def _add(self, name: str, parent: bytes, start: float, end: float) -> bytes:
        """Add a span, and return its id."""
        own = _new_id()
        self._spans.append(otlp.span(self.id, own, parent, name, self._ns(start), self._ns(end)))
        return own

    def _ns(self, seconds: float) -> int:
        return int(seconds * 1e9) + self._offset


def _family(record: RequestRecord) -> Iterator[RequestRecord]:
    """Iterate over a record and those that were made for it."""
    yield record
    for child in record.children:
        yield from _family(child)


def _new_id() -> bytes:
    return (random.getrandbits(64) or 1).to_bytes(8, "big")


def _attributes(record: RequestRecord, scheme: str) -> dict[str, otlp.Value]:
    """Return the attributes of a server's span."""
    found: dict[str, otlp.Value] = {}
    if record.protocol == "http":
        found["http.request.method"] = record.method if record.method in _METHODS else _OTHER
        found["url.scheme"], found["url.path"] = scheme, record.path
        found["http.request.body.size"], found["http.response.body.size"] = record.bytes_in, record.bytes_out
        if record.status:
            found["http.response.status_code"] = record.status
        if route := _route(record):
            found["http.route"] = route
        if record.request_id:
            found["http.request.header.x-request-id"] = [record.request_id]
    else:
        found["rpc.system.name"], found["rpc.method"] = "grpc", _name(record)
        if found["rpc.method"] == _OTHER:
            found["rpc.method_original"] = record.path[1:]
        found["rpc.response.status_code"] = Code(record.status).name
        if record.request_id:
            found["rpc.request.metadata.x-request-id"] = [record.request_id]
    address, port = _peer(record.peer)
    if address:
        found["client.address"] = found["network.peer.address"] = address
    if port:
        found["network.peer.port"] = port
    if record.identity:
        found["enduser.id"] = record.identity
    return found | _about_model(record)


def _about_model(record: RequestRecord) -> dict[str, otlp.Value]:
    found: dict[str, otlp.Value] = {}
    if record.outcome != SUCCESS:
        found["error.type"] = record.outcome
    if record.model:
        found["modelport.model.name"] = record.model
    if record.version:
        found["modelport.model.version"] = record.version
    if record.id:
        found["modelport.request.id"] = record.id
    return found


def _route(record: RequestRecord) -> str:
    """Return the path with placeholders for model and version; "" if it may be any that a client chose.

    Collectors keep figures for each name of a span, so clients must not be able to make up names.
    """
    model = record.model
    if not model and (not record.status or 400 <= record.status < 500):
        return ""
    segments = record.path.split("/")
    for number, segment in enumerate(segments):
        is_cut = len(model) == MAX_LENGTH
        if model and (segment == model or segment.startswith(model if is_cut else f"{model}:")):
            segments[number] = "{model}" + ("" if is_cut else segment[len(model) :])
        elif number and segments[number - 1] in ("versions", "labels"):
            segments[number] = "{version}" + "".join(segment.partition(":")[1:])
    return "/".join(segments)


def _name(record: RequestRecord) -> str:
    if record.protocol == "grpc":
        is_unknown = record.status == Code.UNIMPLEMENTED and record.outcome == NotFound.kind
        return _OTHER if is_unknown else record.path[1:]
    method = record.method if record.method in _METHODS else "HTTP"
    route = _route(record)
    return f"{method} {route}" if route else method


def _peer(peer: str) -> tuple[str, int]:
    """Return address and port of HOST:PORT or of gRPC's ipv4:HOST:PORT or ipv6:[HOST]:PORT."""
    host, _, port = unquote(peer).rpartition(":")
    host = host.removeprefix("ipv4:").removeprefix("ipv6:").strip("[]")
    return host, int(port) if host and port.isdigit() else 0
