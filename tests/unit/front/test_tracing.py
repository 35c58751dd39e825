"""Which requests are traced, and the spans that are made of their records."""

import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from gateway.domain.request_record import CANCELLED, RequestRecord
from gateway.domain.trace_settings import TraceSampler, TraceSettings, TraceTable
from gateway.engine.metrics import FrontMetrics
from gateway.front.tracing.export import _MAX_WAITING, SpanExport
from gateway.front.tracing.parent import Parent, read_parent
from gateway.front.tracing.spans import SpanMaker
from gateway.front.tracing.tracer import Tracer
from gateway.metrics.collector import GatewayCollector, MetricsAggregator
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


MAKER = SpanMaker({"service.name": "modelport"}, "1", "http")


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


def by_name(spans: Sequence[ReadableSpan]) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans}


def exported(traced: Traced) -> list[ReadableSpan]:
    """What the SDK's exporter gets, as OTLP would have it."""
    exporter = InMemorySpanExporter()
    exporter.export(MAKER.spans(traced.records))
    return list(exporter.get_finished_spans())


def test_the_steps_of_a_request() -> None:
    traced = Traced()
    answered(traced, traceparent=SAMPLED, tracestate="a=1,b=2")
    spans = by_name(exported(traced))
    server = spans["POST /v2/models/{model}/infer"]
    assert server.kind is SpanKind.SERVER
    assert server.parent is not None
    assert (f"{server.parent.trace_id:032x}", f"{server.parent.span_id:016x}") == (TRACE, SPAN)
    assert server.context is not None
    assert server.context.trace_state.to_header() == "a=1,b=2"
    start = server.start_time
    assert start is not None
    assert server.end_time == start + 10_000_000_000
    seconds = {
        name: ((span.start_time or 0) - start, (span.end_time or 0) - start, _parent_name(span, spans))
        for name, span in spans.items()
    }
    step = server.name
    assert {name: (begin / 1e9, end / 1e9, parent) for name, (begin, end, parent) in seconds.items()} == {
        step: (0, 10, ""),
        "read": (0, 1, step),
        "queue": (2, 3, step),
        "worker": (3, 8, step),
        "worker.queue": (4, 5, "worker"),
        "batch": (5, 7, "worker"),
        "compute": (5.5, 6.5, "batch"),
        "write": (8, 10, step),
    }
    assert spans["batch"].attributes == {"modelport.batch.rows": 3}
    json.loads(server.to_json())


def _parent_name(span: ReadableSpan, spans: dict[str, ReadableSpan]) -> str:
    parent = span.parent.span_id if span.parent else 0
    return next((name for name, each in spans.items() if each.context and each.context.span_id == parent), "")


def test_the_attributes_are_those_of_the_conventions() -> None:
    traced = Traced()
    answered(traced, bytes_in=5)
    server = exported(traced)[0]
    assert server.attributes == {
        "http.request.method": "POST", "url.scheme": "http", "url.path": "/v2/models/m/infer",
        "http.route": "/v2/models/{model}/infer", "http.response.status_code": 200, "http.request.body.size": 5,
        "http.response.body.size": 0, "http.request.header.x-request-id": ["r"], "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1", "network.peer.port": 9, "enduser.id": "ours",
        "modelport.model.name": "m", "modelport.model.version": "1", "modelport.request.id": "i",
    }  # fmt: skip
    assert server.resource.attributes["service.name"] == "modelport"


@pytest.mark.parametrize(
    ("protocol", "path", "status", "outcome", "name", "error"),
    [
        ("http", "/v2/models/m/infer", 400, "invalid", "POST /v2/models/{model}/infer", False),
        ("http", "/v2/models/m/infer", 503, "unavailable", "POST /v2/models/{model}/infer", True),
        ("http", "/anything", 404, "not_found", "POST", False),
        ("http", "", 400, "invalid", "POST", False),
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
    assert (span.status.status_code is StatusCode.ERROR) == error
    assert span.attributes is not None
    assert span.attributes["error.type"] == outcome


@pytest.mark.parametrize(
    ("peer", "expected"),
    [("ipv4:127.0.0.1:80", "127.0.0.1"), ("ipv6:[::1]:80", "::1"), ("ipv6:%5B::1%5D:80", "::1"), ("::1:80", "::1")],
)
def test_the_address_of_the_peer(peer: str, expected: str) -> None:
    traced = Traced()
    record = traced.record()
    record.peer = peer
    record.end(200)
    attributes = exported(traced)[0].attributes
    assert attributes is not None
    assert (attributes["client.address"], attributes["network.peer.port"]) == (expected, 80)


def test_batches_of_the_same_frame_are_linked() -> None:
    traced = Traced()
    for _ in range(2):
        answered(traced)
    answered(traced).batch = 8
    batches = [span for span in exported(traced) if span.name == "batch"]
    linked = [[link.context.span_id for link in span.links] for span in batches]
    one, other, _ = [span.context.span_id for span in batches if span.context]
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


class StuckExporter(SpanExporter):
    """Does not return before the test says so."""

    def __init__(self) -> None:
        self.called, self.go_on = threading.Event(), threading.Event()
        self.results = iter((SpanExportResult.FAILURE, SpanExportResult.FAILURE))
        self.exported = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.called.set()
        assert self.go_on.wait(WAIT_S)
        self.exported += len(spans)
        return next(self.results, SpanExportResult.SUCCESS)


class OneEach:
    def spans(self, records: Sequence[RequestRecord]) -> Sequence[ReadableSpan]:
        return [ReadableSpan("x")] * len(records)


def test_a_collector_that_is_stuck_delays_nothing_and_takes_little_memory(caplog: pytest.LogCaptureFixture) -> None:
    exporter, traced = StuckExporter(), Traced()
    export = SpanExport(exporter, OneEach())
    record = traced.end()
    with caplog.at_level("INFO", "front"):
        export.put(record)
        assert exporter.called.wait(WAIT_S)
        for _ in range(2 * _MAX_WAITING):
            export.put(record)
        assert len(export._waiting) == _MAX_WAITING
        exporter.go_on.set()
        export.close(WAIT_S)
    assert exporter.exported == _MAX_WAITING + 1
    warning, recovered = (each.getMessage() for each in caplog.records)
    assert "cannot be sent to the collector" in warning  # once for two failures
    assert str(_MAX_WAITING) in recovered
