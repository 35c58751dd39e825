"""Which requests are traced, and the spans that are made of their records."""

import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.domain.request_record import CANCELLED, RequestRecord
from gateway.domain.trace_settings import TraceSampler, TraceSettings, TraceTable
from gateway.engine.metrics import FrontMetrics
from gateway.front.tracing import otlp
from gateway.front.tracing.export import _MAX_WAITING, Collector, SpanExport
from gateway.front.tracing.parent import Parent, read_parent
from gateway.front.tracing.spans import spans_of
from gateway.front.tracing.tracer import Tracer
from gateway.metrics.collector import GatewayCollector, MetricsAggregator
from tests.support.otlp_receiver import attributes
from tests.unit.front.test_compiled_requests import Bench, Run, module, request, run

__all__ = ["module", "run"]  # fixtures

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
WAIT_S = 60


@pytest.mark.parametrize(
    ("header", "sampled"),
    [(SAMPLED, True), (UNSAMPLED, False), (f"00-{TRACE}-{SPAN}-ff", True), (f"cc-{TRACE}-{SPAN}-01-later", True)],
)
def test_a_valid_parent(header: str, sampled: bool) -> None:
    assert read_parent(header) == Parent(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "header",
    [
        "", "01", SAMPLED.upper(), SAMPLED + "-more", SAMPLED + "x", f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[1:]}-{SPAN}-01", f"00-{TRACE}-{SPAN}-1",
        f"cc-{TRACE}-{SPAN}-01.x",
    ],
)  # fmt: skip
def test_a_parent_that_is_not_valid_is_ignored(header: str) -> None:
    assert read_parent(header) is None


class Traced:
    """A Tracer with these settings, and what it exports."""

    def __init__(self, enabled: bool = True, rate: float = 1) -> None:
        self.records: list[RequestRecord] = []
        self.metrics = FrontMetrics()
        self.sampler = TraceSampler()
        self.sampler.apply(TraceTable(TraceSettings(enabled, rate)).to_front(1, 1))
        self.tracer = Tracer(self.sampler, self.records.append, self.metrics)

    def record(self, **fields: Any) -> RequestRecord:
        return RequestRecord(self.tracer, "http", "POST", "/v2/models/m/infer", "127.0.0.1:9", **fields)

    def end(self, **fields: Any) -> RequestRecord:
        record = self.record(**fields)
        record.end(200)
        return record


def test_a_parent_decides_whether_a_request_is_traced() -> None:
    traced = Traced(rate=0)
    for header in (SAMPLED, UNSAMPLED, ""):
        traced.end(traceparent=header)
    [record] = traced.records
    assert (record.traceparent, record.trace_id) == (SAMPLED, TRACE)


@pytest.mark.parametrize(("rate", "expected"), [(1, 300), (100, 3), (2.5, 120), (0, 0)])
def test_without_a_parent_the_ratio_decides(rate: float, expected: int) -> None:
    traced = Traced(rate=rate)
    for _ in range(300):
        traced.end()
    assert len(traced.records) == expected
    assert len({record.trace_id for record in traced.records}) == expected


def test_nothing_is_traced_while_traces_are_off() -> None:
    traced = Traced(enabled=False)
    traced.end(traceparent=SAMPLED)
    assert not traced.records
    assert traced.tracer.skips("m", SAMPLED)


def test_the_compiled_path_and_python_decide_once() -> None:
    traced = Traced(rate=2)
    assert traced.tracer.skips("m", "")
    assert not traced.tracer.skips("m", "")
    record = traced.end(model="m")  # what the Python code makes of that request
    assert record.traced
    assert traced.tracer.skips("m", "")
    assert len(traced.records) == 1


def answered(traced: Traced, **fields: Any) -> RequestRecord:
    """The record of a request that took 10 s."""
    record = traced.record(model="m", version="1", identity="ours", id="i", request_id="r", **fields)
    record.arrived, record.received, record.queued, record.sent, record.answered = 1, 2, 3, 4, 9
    record.queue_ns, record.compute_input_ns = 1_000_000_000, 500_000_000
    record.compute_infer_ns, record.compute_output_ns = 1_000_000_000, 500_000_000
    record.batch, record.batch_rows = 7, 3
    record.end(200)
    record.written = 11
    return record


def exported(traced: Traced) -> list[Any]:
    """Return the spans as a collector reads them."""
    message = otlp.request(
        {"service.name": "ours"}, {"name": "modelport", "version": "1"}, spans_of(traced.records, "http")
    )
    [resource] = ExportTraceServiceRequest.FromString(message).resource_spans
    assert attributes(resource.resource.attributes) == {"service.name": "ours"}
    [scope] = resource.scope_spans
    assert (scope.scope.name, scope.scope.version) == ("modelport", "1")
    return list(scope.spans)


def test_the_steps_of_a_request() -> None:
    traced = Traced()
    answered(traced, traceparent=SAMPLED, tracestate="a=1,b=2")
    spans = {span.name: span for span in exported(traced)}
    step = "POST /v2/models/{model}/infer"
    server = spans[step]
    assert server.kind == Span.SPAN_KIND_SERVER
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, SPAN)
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert (server.trace_state, server.flags) == ("a=1,b=2", 0x301)
    names = {span.span_id: name for name, span in spans.items()}
    start = server.start_time_unix_nano
    assert abs(start / 1e9 - time.time() - 1 + time.monotonic()) < WAIT_S
    assert {
        name: (
            (span.start_time_unix_nano - start) / 1e9,
            (span.end_time_unix_nano - start) / 1e9,
            names.get(span.parent_span_id),
        )
        for name, span in spans.items()
    } == {
        step: (0, 10, None),
        "read": (0, 1, step),
        "queue": (2, 3, step),
        "worker": (3, 8, step),
        "worker.queue": (4, 5, "worker"),
        "batch": (5, 7, "worker"),
        "compute": (5.5, 6.5, "batch"),
        "write": (8, 10, step),
    }
    assert attributes(spans["batch"].attributes) == {"modelport.batch.rows": 3}


def test_requests_that_were_made_for_another_are_below_it() -> None:
    traced = Traced()
    record = traced.record(model="p", traceparent=SAMPLED)
    traced.tracer.named(record)
    record.arrived, record.queued, record.sent, record.answered, record.has_steps = 1, 2, 2, 9, True
    children = [record.of_child(name, "", "") for name in ("a", "b", "refused")]
    for number, child in enumerate(children[:2]):
        assert child is not None
        child.arrived = child.queued = 2 + 3 * number
        child.sent, child.answered, child.version = child.arrived + 1, 5 + number, "1"
        child.batch, child.batch_rows, child.compute_infer_ns = 7, 2, 1_000_000_000
    assert children[1] is not None
    inner = children[1].of_child("inner", "", "")
    assert inner is not None
    inner.arrived = 5
    refused = children[2]
    assert refused is not None
    refused.arrived, refused.outcome = 6, "invalid"
    record.end(200)
    record.written = 10
    spans = exported(traced)
    start = spans[0].start_time_unix_nano - 1_000_000_000
    assert "queue" not in [span.name for span in spans if span.parent_span_id == spans[0].span_id]
    calls = [span for span in spans if span.name == "call"]
    last = calls.pop(2)
    assert attributes(last.attributes) == {"modelport.model.name": "inner"}
    assert last.parent_span_id in {span.span_id for span in spans if span.parent_span_id == calls[1].span_id}
    assert {span.parent_span_id for span in calls} == {spans[0].span_id}
    assert [(attributes(span.attributes), (span.end_time_unix_nano - start) / 1e9) for span in calls] == [
        ({"modelport.model.name": "a", "modelport.model.version": "1"}, 5),
        ({"modelport.model.name": "b", "modelport.model.version": "1"}, 6),
        ({"modelport.model.name": "refused", "error.type": "invalid"}, 6),
    ]
    for call in calls[:2]:
        below = {span.name: span for span in spans if span.parent_span_id == call.span_id}
        assert set(below) == {"queue", "worker"}
    first, second = [span for span in spans if span.name == "batch"]
    assert [link.span_id for link in first.links] == [second.span_id]  # two steps whose requests ran in one batch
    assert {span.trace_id.hex() for span in spans} == {TRACE}


def test_the_attributes_are_those_of_the_conventions() -> None:
    traced = Traced()
    answered(traced, bytes_in=5)
    server = exported(traced)[0]
    assert attributes(server.attributes) == {
        "http.request.method": "POST", "url.scheme": "http", "url.path": "/v2/models/m/infer",
        "http.route": "/v2/models/{model}/infer", "http.response.status_code": 200, "http.request.body.size": 5,
        "http.response.body.size": 0, "http.request.header.x-request-id": ["r"], "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1", "network.peer.port": 9, "enduser.id": "ours",
        "modelport.model.name": "m", "modelport.model.version": "1", "modelport.request.id": "i",
    }  # fmt: skip
    assert not server.parent_span_id
    assert server.flags == 0x101


@pytest.mark.parametrize(
    ("protocol", "path", "status", "outcome", "name", "error"),
    [
        ("http", "/v2/models/m/infer", 400, "invalid", "POST /v2/models/{model}/infer", False),
        ("http", "/v2/models/m/infer", 503, "unavailable", "POST /v2/models/{model}/infer", True),
        ("http", "/anything", 404, "not_found", "POST", False),
        ("http", "", 400, "invalid", "POST", False),
        ("http", "/anything", 400, "invalid", "POST", False),
        ("http", "/v2", 503, "unavailable", "POST /v2", True),
        ("grpc", "/x.Y/Z", 12, "not_found", "_OTHER", True),
        ("grpc", "/a.B/C", 3, "invalid", "a.B/C", False),
        ("grpc", "/a.B/C", 13, "internal", "a.B/C", True),
        ("grpc", "/a.B/C", 1, CANCELLED, "a.B/C", False),
    ],
)
def test_refusals(protocol: Any, path: str, status: int, outcome: str, name: str, error: bool) -> None:
    traced = Traced()
    record = traced.record(model="m" if "/m/" in path else "")
    record.protocol, record.path = protocol, path
    record.end(status, outcome)
    [span] = exported(traced)
    assert span.name == name
    assert (span.status.code == Status.STATUS_CODE_ERROR) == error
    assert attributes(span.attributes)["error.type"] == outcome


@pytest.mark.parametrize(
    ("peer", "expected"),
    [("ipv4:127.0.0.1:80", "127.0.0.1"), ("ipv6:[::1]:80", "::1"), ("ipv6:%5B::1%5D:80", "::1"), ("::1:80", "::1")],
)
def test_the_address_of_the_peer(peer: str, expected: str) -> None:
    traced = Traced()
    record = traced.record()
    record.peer = peer
    record.end(200)
    found = attributes(exported(traced)[0].attributes)
    assert (found["client.address"], found["network.peer.port"]) == (expected, 80)


@pytest.mark.parametrize("model", ["m", "a:b", "m" * 300])
def test_names_of_spans_have_no_name_that_a_client_chose(model: str) -> None:
    traced = Traced()
    for path in (f"/v2/models/{model}/versions/12/infer", f"/v1/models/{model}/labels/12:predict"):
        record = traced.record(model=model)
        record.path = path
        record.end(404, "not_found")
    names = {span.name for span in exported(traced)}
    assert names == {
        "POST /v2/models/{model}/versions/{version}/infer", "POST /v1/models/{model}/labels/{version}:predict"
    }  # fmt: skip


def test_long_texts_of_clients_are_cut_off() -> None:
    traced = Traced()
    record = traced.record(model="m" * 10_000, version="1" * 10_000, id="i" * 10_000)
    record.path = "/x" * 10_000
    record.end(200)
    message = otlp.request({}, {"name": "", "version": ""}, spans_of(traced.records, "http"))
    assert len(message) < 8000


def test_batches_of_the_same_frame_are_linked() -> None:
    traced = Traced()
    for _ in range(2):
        answered(traced)
    answered(traced).batch = 8
    batches = [span for span in exported(traced) if span.name == "batch"]
    linked = [[(link.trace_id, link.span_id) for link in span.links] for span in batches]
    one, other, _ = [(span.trace_id, span.span_id) for span in batches]
    assert linked == [[other], [one], []]


def test_traced_requests_of_a_batch_are_linked_whichever_way_they_come(run: Run) -> None:
    traced = Traced(rate=0)

    async def test(bench: Bench) -> None:
        await bench.learn()
        data = request().replace(b"host:", f"traceparent: {SAMPLED}\r\nhost:".encode(), 1)
        for number in (bench.number, bench.pair.connect()):
            bench.pair.send(number, data)
        await bench.pair.compare()
        await bench.answer_together()

    run(test, observer=traced.tracer)
    batches = [span for span in exported(traced) if span.name == "batch"]
    assert [len(span.links) for span in batches] == [3] * 4  # two fronts, whose requests have the same numbers


def test_exemplars_name_the_newest_trace_of_each_bucket() -> None:
    first, second = Traced(), Traced()
    answered(first, traceparent=SAMPLED)
    record = answered(second)
    record.end(200)
    aggregator = MetricsAggregator()
    for number, traced in enumerate((first, second)):
        metrics = traced.metrics.of("m", "1")
        metrics.finished.append(6.0)
        metrics.waited.append(2.0)
        aggregator.update(number, traced.metrics.snapshot())
    aggregator.retire(0)
    found = {
        (sample.labels["le"], sample.exemplar.value, sample.exemplar.labels["trace_id"])
        for family in GatewayCollector(aggregator, lambda: ()).collect()
        if family.name == "modelport_request_duration_seconds"
        for sample in family.samples
        if sample.exemplar
    }
    assert found == {("10.0", 6.0, record.trace_id)}


class StuckCollector:
    """Does not answer before the test says so, and refuses the first two messages."""

    def __init__(self) -> None:
        self.called, self.go_on = threading.Event(), threading.Event()
        self.messages: list[bytes] = []

    def send(self, message: bytes) -> bool:
        self.called.set()
        assert self.go_on.wait(WAIT_S)
        self.messages.append(message)
        return len(self.messages) > 2


def test_a_collector_that_is_stuck_delays_nothing_and_takes_little_memory(caplog: pytest.LogCaptureFixture) -> None:
    collector, traced = StuckCollector(), Traced()
    export = SpanExport(lambda records: b"x" * len(records), collector.send)
    record = traced.end()
    with caplog.at_level("INFO", "front"):
        export.put(record)
        assert collector.called.wait(WAIT_S)
        for _ in range(2 * _MAX_WAITING):
            export.put(record)
        collector.go_on.set()
        export.close(WAIT_S)
    assert sum(map(len, collector.messages)) == _MAX_WAITING + 1
    warning, recovered = (each.getMessage() for each in caplog.records)
    assert "cannot be sent to the collector" in warning  # once for two failures
    refused = sum(map(len, collector.messages[:2]))
    assert f"; {_MAX_WAITING + refused} were dropped" in recovered


def test_a_collector_that_is_too_slow_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    called, go_on = threading.Event(), threading.Event()

    def send(message: bytes) -> bool:
        called.set()
        return go_on.wait(WAIT_S)

    export = SpanExport(lambda records: b"", send)
    record = Traced().end()
    with caplog.at_level("INFO", "front"):
        export.put(record)
        assert called.wait(WAIT_S)
        for _ in range(_MAX_WAITING + 5):
            export.put(record)
        go_on.set()
        export.close(WAIT_S)
    warning, recovered = (each.getMessage() for each in caplog.records)
    assert "too slow" in warning
    assert "; 5 were dropped" in recovered


@pytest.mark.parametrize(("status", "accepted"), [(200, True), (302, False), (400, False)])
def test_only_a_success_means_that_the_collector_has_the_traces(status: int, accepted: bool) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("location", "http://127.0.0.1:1/")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert Collector(endpoint=f"http://127.0.0.1:{server.server_port}/v1/traces").send(b"") is accepted
        thread.join(WAIT_S)


def test_a_request_of_which_no_span_can_be_made_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    sent = threading.Event()
    bad, good = Traced().end(), Traced().end()

    def encode(records: Sequence[RequestRecord]) -> bytes:
        if bad in records:
            raise ValueError("a bug")
        return b"x"

    def send(message: bytes) -> bool:
        sent.set()
        return True

    export = SpanExport(encode, send)
    export.put(bad)
    while export._waiting:
        export._awake.set()
    export.put(good)
    export.close(WAIT_S)
    assert sent.is_set()
    assert "no spans could be made of 1 requests" in caplog.text


def test_values_of_each_type_are_encoded() -> None:
    values: dict[str, otlp.Value] = {"s": "é" * 200, "b": True, "i": 300, "n": -1, "f": 0.5, "l": ["a", "b"]}
    found = Span.FromString(otlp.span(bytes(16), bytes(8), b"", "x" * 300, 1, 2, values))
    assert len(found.name) == 300
    read = {pair.key: pair.value for pair in found.attributes}
    assert (read["s"].string_value, read["b"].bool_value, read["i"].int_value) == ("é" * 200, True, 300)
    assert (read["n"].int_value, read["f"].double_value) == (-1, 0.5)
    assert [each.string_value for each in read["l"].array_value.values] == ["a", "b"]
