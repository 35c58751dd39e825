"""The load generator and the forms of requests, against the real fronts over a fake engine."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import grpc
import numpy as np
import pytest
import uvloop
from onnx.reference import ReferenceEvaluator

from benchmarks import captured, forms
from benchmarks.h2load import Load
from benchmarks.prepared import generator, http_head, prepare
from benchmarks.requests import METHOD
from gateway.domain.types import InferRequest, ModelStatus
from gateway.engine.fake import FakeEngine
from gateway.front.admin.app import build_admin
from gateway.front.base.limits import Limits
from gateway.front.grpc.server import build_server
from gateway.front.http.server import HttpServer
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor, from_array, to_array

ALL_KINDS = [kind for kind in forms.KINDS if kind != "tritonclient"]  # which needs its own environment
LIMITS = Limits(json_bytes=1 << 20, binary_bytes=1 << 20, response_bytes=1 << 20)
WAIT_S = 60


@dataclass
class Front:
    repository: Path
    engine: FakeEngine
    http: int
    grpc: int

    def port(self, dialect: str) -> int:
        return self.grpc if dialect == "grpc" else self.http

    def forms(self, kind: str, dialect: str, count: int) -> list[forms.Form]:
        every = forms.make_forms(self.repository, kind, dialect, count)
        return [forms.at(self.port(dialect), form) for form in every]


def model(name: str, datatype: str, width: int, *inputs: str) -> ModelStatus:
    takes = tuple(TensorSpec(tensor, datatype, (-1, width)) for tensor in inputs)
    gives = (TensorSpec("y", datatype, (-1, 4 if name == "tiny" else width)),)
    return ModelStatus(name, "1", "READY", signatures={"": Signature(takes, gives)}, max_batch_size=32)


MODELS = [
    model("tiny", "FP32", 16, "x"),
    model("three", "FP32", 16, "a", "b", "c"),
    model("int64", "INT64", 16, "x"),
    model("fp16", "FP16", 16, "x"),
    model("bytes", "BYTES", 4, "x"),
]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    repository = tmp_path_factory.mktemp("models")
    names = forms.make_models(repository)
    models = {name: ReferenceEvaluator(str(repository / name / "1" / "model.onnx")) for name in names}

    def compute(request: InferRequest) -> list[Tensor]:
        (output,) = models[request.model].run(None, {tensor.name: to_array(tensor) for tensor in request.inputs})
        return [from_array("y", output)]

    stop = asyncio.Event()
    started: Future[tuple[asyncio.AbstractEventLoop, Front]] = Future()

    async def serve() -> None:
        engine = FakeEngine(MODELS, compute)
        rest = HttpServer(engine, LIMITS, build_admin(engine, LIMITS, [], None), None)
        listener = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(rest.serve([listener]))
        server = build_server(engine, LIMITS, "native")
        port = server.add_port("127.0.0.1:0")
        await server.start()
        ports = listener.getsockname()[1], port
        started.set_result((asyncio.get_running_loop(), Front(repository, engine, *ports)))
        await stop.wait()
        rest.stop()
        await serving
        await server.stop(None)

    thread = Thread(target=uvloop.run, args=(serve(),))
    thread.start()
    loop, running = started.result(WAIT_S)
    yield running
    loop.call_soon_threadsafe(stop.set)
    thread.join(WAIT_S)


@pytest.mark.parametrize("dialect", forms.DIALECTS)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_forms_differ_and_are_answered_rightly(front: Front, kind: str, dialect: str) -> None:
    every = front.forms(kind, dialect, 8)
    assert len({form.load.body for form in every}) == 8
    forms.check([*every, *front.forms(kind, dialect, 1)])
    wrong = replace(every[0], expected=np.roll(every[0].expected, 1))
    with pytest.raises(AssertionError):
        forms.check([wrong])


@pytest.mark.parametrize(("dialect", "in_flight"), [("v2_json", 3), ("v2_binary", 1), ("grpc", 16), ("grpc", 3)])
def test_every_form_is_sent_as_it_was_prepared(front: Front, tmp_path: Path, dialect: str, in_flight: int) -> None:
    every = front.forms("ids", dialect, 5)
    prepared = prepare([form.load for form in every], tmp_path / "requests")
    front.engine.requests.clear()
    with generator() as load:
        load.connect(prepared, in_flight)
        first, second = load.run(50), load.run(150)
    assert (first.count, second.count) == (50, 150)
    assert 0 < second.latencies[0] <= second.percentile(99) <= second.seconds
    assert second.cpu_seconds > 0
    arrived = front.engine.requests
    assert len(arrived) == 200
    assert len({request.id for request in arrived}) == 5
    values = {bytes(request.inputs[0].data) for request in arrived}
    assert len(values) == 5


@pytest.mark.parametrize("dialect", ["v2_json", "grpc"])
def test_an_error_response_fails_the_run(
    front: Front, tmp_path: Path, dialect: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (form,) = front.forms("plain", dialect, 1)
    bad = replace(form.load, body=form.load.body.replace(b"FP32", b"FP64"))
    prepared = prepare([form.load, bad], tmp_path / "requests")
    with generator() as load:
        load.connect(prepared, 2)
        with pytest.raises(RuntimeError, match="the load generator failed"):
            load.run(100)
    assert "FP64" in capfd.readouterr().err


def test_a_grpc_call_is_recorded_with_its_headers(front: Front, tmp_path: Path) -> None:
    (form,) = front.forms("plain", "grpc", 1)
    with captured.recording(grpc=True) as (port, found), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD)
        for number in range(3):
            with pytest.raises(grpc.RpcError) as raised:
                call(form.load.body, metadata=[("x-request-id", f"id {number}")], timeout=WAIT_S)
            assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert [load.headers["x-request-id"] for load in found] == ["id 0", "id 1", "id 2"]
    assert all(load.body == form.load.body and load.headers[":path"] == METHOD for load in found)
    assert all("grpc-python" in load.headers["user-agent"] for load in found)
    there = [forms.at(front.grpc, replace(form, load=load)).load for load in found]
    with generator() as load:
        load.connect(prepare(there, tmp_path / "requests"), 1)
        assert load.run(20).count == 20


def test_a_rest_request_is_recorded_byte_by_byte() -> None:
    sent = Load("http://h/v2/models/m/infer", b"{}", {"hOsT": "h", "User-Agent": "a", "Content-Length": "2"})
    with (
        captured.recording(grpc=False) as (port, found),
        socket.create_connection(("127.0.0.1", port), WAIT_S) as connection,
    ):
        connection.sendall(http_head(sent) + sent.body)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400 ")
    assert found == [sent]
