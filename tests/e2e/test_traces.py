"""Traces of a real gateway, as a collector receives them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway, Reply, start_gateway
from tests.support.model_repositories import add_fake
from tests.support.otlp_receiver import OtlpReceiver, attributes

SPAN = "b7ad6b7169203331"
STEPS = {"read", "queue", "worker", "worker.queue", "batch", "compute", "write"}
BODY = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


class Traced(NamedTuple):
    gateway: Gateway
    receiver: OtlpReceiver

    def ask(self, number: int, path: str = "/v2/models/m/infer", body: Any = BODY, flags: str = "01") -> Reply:
        return self.gateway.post(path, body, {"traceparent": f"00-{trace(number)}-{SPAN}-{flags}"})


def trace(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    scratch, receiver = tmp_path_factory.mktemp("traces"), OtlpReceiver()
    add_fake(scratch / "repository", "m")
    flags = ("--otlp-endpoint", receiver.url, "--trace-ratio", "0")
    gateway = start_gateway(scratch / "repository", scratch, *flags, OTEL_EXPORTER_OTLP_TIMEOUT="1").wait_ready()
    yield Traced(gateway, receiver)
    gateway.close()
    receiver.close()


def test_a_trace_has_a_span_for_each_step(traced: Traced) -> None:
    for number in (1, 2, 3):  # the compiled path knows the form of the last
        assert traced.ask(number).status == 200
        spans = traced.receiver.wait(trace(number))
        assert set(spans) | {"read"} == {"POST /v2/models/{model}/infer", *STEPS}  # read: if it came in parts
        server = spans["POST /v2/models/{model}/infer"]
        assert server.parent_span_id.hex() == SPAN
        found = attributes(server.attributes)
        assert (found["http.response.status_code"], found["modelport.model.version"]) == (200, "1")
        assert spans["worker"].parent_span_id == server.span_id
        assert spans["batch"].parent_span_id == spans["worker"].span_id
        assert spans["compute"].parent_span_id == spans["batch"].span_id
        times = [time for step in ("queue", "worker", "write") for time in _times(spans[step])]
        assert times == sorted(times)
        for inner, outer in (("worker.queue", "worker"), ("batch", "worker"), ("compute", "batch")):
            (start, end), (first, last) = _times(spans[inner]), _times(spans[outer])
            assert first <= start <= end <= last
    assert traced.receiver.resources["service.name"] == "modelport"


def _times(span: Any) -> tuple[int, int]:
    return span.start_time_unix_nano, span.end_time_unix_nano


@pytest.mark.parametrize(
    ("number", "path", "body", "name"),
    [
        (11, "/predict/m", {"inputs": {"x": [[1, 2, 3, 4]]}}, "POST /predict/{model}"),
        (12, "/v1/models/m:predict", {"instances": [[1, 2, 3, 4]]}, "POST /v1/models/{model}:predict"),
        (13, "/predictions/m", [[1, 2, 3, 4]], "POST /predictions/{model}"),
    ],
)
def test_each_dialect_is_traced(traced: Traced, number: int, path: str, body: Any, name: str) -> None:
    assert traced.ask(number, path, body).status == 200
    assert {name, "queue", "worker", "compute", "write"} <= set(traced.receiver.wait(trace(number)))


def test_nvidias_clients(traced: Traced) -> None:
    parents = [f"00-{trace(number)}-{SPAN}-01" for number in (21, 22, 23)]
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    script = Path(__file__).parent / "traces_script.py"
    assert "all of it worked" in run_client(python, script, traced.gateway.http, traced.gateway.grpc, *parents)
    http, call, stream = (traced.receiver.wait(trace(number)) for number in (21, 22, 23))
    assert {"POST /v2/models/{model}/infer", "compute"} <= set(http)
    infer = call["inference.GRPCInferenceService/ModelInfer"]
    found = attributes(infer.attributes)
    assert (found["rpc.response.status_code"], found["modelport.request.id"]) == ("OK", "i")
    assert infer.trace_state == "a=1"
    assert {"inference.GRPCInferenceService/ModelStreamInfer", "compute"} <= set(stream)


def test_what_is_refused_and_what_is_not_for_inference(traced: Traced) -> None:
    assert traced.ask(31, body={}).status == 400
    refused = traced.receiver.wait(trace(31), "POST /v2/models/{model}/infer")
    assert attributes(refused["POST /v2/models/{model}/infer"].attributes)["error.type"] == "invalid"
    traced.gateway.request("GET", "/v2/models/m", headers={"traceparent": f"00-{trace(32)}-{SPAN}-01"})
    traced.receiver.wait(trace(32), "GET /v2/models/{model}")


def test_the_ratio_is_a_setting_and_an_unsampled_parent_is_obeyed(traced: Traced) -> None:
    settings = traced.gateway.get("/v2/trace/setting").json()
    assert (settings["trace_level"], settings["trace_rate"]) == (["TIMESTAMPS"], "0")
    assert traced.gateway.post("/v2/models/m/infer", BODY).status == 200
    traced.ask(41)
    traced.receiver.wait(trace(41))
    known = set(traced.receiver.spans)
    traced.gateway.post("/v2/trace/setting", {"trace_rate": "1"})
    assert traced.ask(42, flags="00").status == 200
    assert traced.gateway.post("/v2/models/m/infer", BODY).status == 200
    traced.gateway.post("/v2/trace/setting", {"trace_rate": "0"})
    traced.ask(43)
    traced.receiver.wait(trace(43))  # whatever was traced before is exported before
    new = set(traced.receiver.spans) - known - {trace(43)}
    assert trace(42) not in new
    names = [span.name for found in new for span in traced.receiver.spans[found] if not span.parent_span_id]
    assert names.count("POST /v2/models/{model}/infer") == 1


def test_exemplars_name_traces(traced: Traced) -> None:
    assert traced.ask(51).status == 200
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    text = traced.gateway.request("GET", "/metrics", headers=accept).body.decode()
    pattern = r'^modelport_request_duration_seconds_bucket\{.*model="m".*\} \S+ # \{trace_id="(\w{32})"\} \S+ \S+$'
    assert set(re.findall(pattern, text, re.MULTILINE)) <= set(traced.receiver.spans) | {trace(51)}
    assert re.search(pattern, text, re.MULTILINE)
    assert "trace_id" not in traced.gateway.get("/metrics").body.decode()


def test_a_collector_that_is_down_costs_a_warning_and_nothing_else(traced: Traced) -> None:
    port = traced.receiver.port
    traced.receiver.close()
    assert traced.ask(61).status == 200
    traced.gateway.wait_for("WARNING.*traces cannot be sent to the collector")
    assert traced.ask(62).status == 200
    again = OtlpReceiver(port)
    try:
        while not any("traces are exported again" in line for line in traced.gateway.log):
            assert traced.ask(63).status == 200  # each turn is a request
    finally:
        again.close()
    assert not [line for line in traced.gateway.log if "Traceback" in line]
