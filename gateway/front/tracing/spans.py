"""Makes spans of records, with the attributes of OpenTelemetry's semantic conventions."""

import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes, AttributeValue

from gateway.domain.request_record import SUCCESS, RequestRecord
from gateway.front.base.grpc_code import Code
from gateway.front.tracing.parent import read_parent

_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
# The codes for which a server's span is an error; others are the client's fault.
_SERVER_ERRORS = frozenset(
    {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS}
)
# Of the neighbours in a batch. A link takes as much as a small span.
_MAX_LINKS = 16
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class SpanMaker:
    """Makes the spans of requests: one for the server, whose children are the steps of the request.

    The SDK's tracer takes seven times as long to make a span that is over already.
    """

    def __init__(self, resource: Mapping[str, AttributeValue], version: str, scheme: str) -> None:
        """`resource`: attributes of the front. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME override them."""
        self._resource = Resource.create(resource).merge(OTELResourceDetector().detect())
        self._scope = InstrumentationScope("modelport", version)
        self._scheme = scheme

    def spans(self, records: Sequence[RequestRecord]) -> list[ReadableSpan]:
        """Return the spans of these requests. Those that shared a batch are linked."""
        now = time.time_ns() - time.monotonic_ns()
        traces = [_Trace(record, self, now) for record in records]
        batches: dict[int, list[_Trace]] = defaultdict(list)
        for trace in traces:
            if trace.batch is not None:
                batches[trace.record.batch].append(trace)
        for together in batches.values():
            for trace in together:
                assert trace.batch is not None
                others = [other.batch.context for other in together if other is not trace and other.batch is not None]
                trace.batch._links = [Link(context) for context in others[:_MAX_LINKS]]
        return [span for trace in traces for span in trace.spans]

    def span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        start: int,
        end: int,
        attributes: Attributes = None,
        kind: SpanKind = SpanKind.INTERNAL,
        status: Status | None = None,
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=status or Status(StatusCode.UNSET),
            start_time=start,
            end_time=max(start, end),
            instrumentation_scope=self._scope,
        )

    def server_attributes(self, record: RequestRecord) -> dict[str, AttributeValue]:
        found: dict[str, AttributeValue] = {}
        if record.protocol == "http":
            found["http.request.method"] = record.method if record.method in _METHODS else "_OTHER"
            found["url.scheme"], found["url.path"] = self._scheme, record.path
            found["http.request.body.size"], found["http.response.body.size"] = record.bytes_in, record.bytes_out
            if record.status:
                found["http.response.status_code"] = record.status
            if route := _route(record):
                found["http.route"] = route
            if record.request_id:
                found["http.request.header.x-request-id"] = [record.request_id]
        else:
            found["rpc.system.name"], found["rpc.method"] = "grpc", record.path[1:]
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
        if record.outcome != SUCCESS:
            found["error.type"] = record.outcome
        for name, value in (
            ("modelport.model.name", record.model),
            ("modelport.model.version", record.version),
            ("modelport.request.id", record.id),
        ):
            if value:
                found[name] = value
        return found


class _Trace:
    """The spans of one request. `batch` is the one of its batch, if it was in one."""

    def __init__(self, record: RequestRecord, maker: SpanMaker, offset: int) -> None:
        """`offset`: from time.monotonic_ns() to nanoseconds since 1970."""
        self.record, self._maker, self._offset = record, maker, offset
        self.batch: ReadableSpan | None = None
        parent = read_parent(record.traceparent)
        state = TraceState.from_header([record.tracestate]) if parent and record.tracestate else None
        self._state = state
        self._trace_id = int(record.trace_id, 16)
        above = None
        if parent is not None:
            above = SpanContext(self._trace_id, int(parent.span_id, 16), True, _SAMPLED, state)
        is_error = record.status >= 500 if record.protocol == "http" else record.status in _SERVER_ERRORS
        server = maker.span(
            _name(record),
            self._context(),
            above,
            self._ns(record.arrived),
            self._ns(record.written),
            maker.server_attributes(record),
            SpanKind.SERVER,
            Status(StatusCode.ERROR) if is_error else None,
        )
        self.spans = [server]
        self._steps(server)

    def _steps(self, server: ReadableSpan) -> None:
        record, ns = self.record, self._ns
        if record.received > record.arrived:
            self._add("read", server, ns(record.arrived), ns(record.received))
        if record.answered:
            self._add("queue", server, ns(record.queued), ns(record.sent or record.answered))
        if record.sent:
            wall = self._add("worker", server, ns(record.sent), ns(record.answered))
            if record.batch:
                self._worker_steps(wall)
        if record.answered:
            self._add("write", server, ns(record.answered), ns(record.written))

    def _worker_steps(self, wall: ReadableSpan) -> None:
        """Add what the worker did, by its durations. The time that is left is that of the two ways, half of it each."""
        record = self.record
        start, end = self._ns(record.sent), self._ns(record.answered)
        batch_ns = record.compute_input_ns + record.compute_infer_ns + record.compute_output_ns
        began = start + max(0, end - start - record.queue_ns - batch_ns) // 2
        self._add("worker.queue", wall, began, began + record.queue_ns)
        began += record.queue_ns
        batch = self._add("batch", wall, began, began + batch_ns, {"modelport.batch.rows": record.batch_rows})
        began += record.compute_input_ns
        self._add("compute", batch, began, began + record.compute_infer_ns)
        self.batch = batch

    def _add(
        self, name: str, parent: ReadableSpan, start: int, end: int, attributes: Attributes = None
    ) -> ReadableSpan:
        span = self._maker.span(name, self._context(), parent.context, start, end, attributes)
        self.spans.append(span)
        return span

    def _context(self) -> SpanContext:
        return SpanContext(self._trace_id, random.getrandbits(64) or 1, False, _SAMPLED, self._state)

    def _ns(self, seconds: float) -> int:
        return int(seconds * 1e9) + self._offset


def _route(record: RequestRecord) -> str:
    """Return the path with placeholders for model and version, so that there are few; "" if it was not found."""
    if record.status in (0, 404, 405) and not record.model:
        return ""
    segments = record.path.split("/")
    for number, segment in enumerate(segments):
        name, colon, verb = segment.partition(":")
        if record.model and name == record.model:
            segments[number] = "{model}" + colon + verb
        elif (number and segments[number - 1] in ("versions", "labels")) or (segment and segment == record.version):
            segments[number] = "{version}" + colon + verb
    return "/".join(segments)


def _name(record: RequestRecord) -> str:
    if record.protocol == "grpc":
        return record.path[1:]
    method = record.method if record.method in _METHODS else "HTTP"
    route = _route(record)
    return f"{method} {route}" if route else method


def _peer(peer: str) -> tuple[str, int]:
    """Return address and port of HOST:PORT or of gRPC's ipv4:HOST:PORT or ipv6:[HOST]:PORT."""
    host, _, port = unquote(peer).rpartition(":")
    host = host.removeprefix("ipv4:").removeprefix("ipv6:").strip("[]")
    return host, int(port) if host and port.isdigit() else 0
