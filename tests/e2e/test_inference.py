"""Queues and batches in a real gateway: neighbors, cancellation, deadlines, limits, priorities, old Pythons."""

import http.client
import json
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from gateway.generated import open_inference_pb2 as pb
from tests.support.gateway_process import Gateway
from tests.support.load_generator import Load
from tests.support.model_repositories import add_fake
from tests.support.protocols import PROTOCOLS, Ask, ask_grpc, grpc_call

Start = Callable[..., Gateway]
ONE_BY_ONE = "max_batch_size = 0\nwarmup = 0\n"


def row(value: float, rows: int = 1) -> dict[str, Any]:
    return {"inputs": {"x": [[value] * 4] * rows}}


def metric(running: Gateway, name: str, model: str, **labels: str) -> float:
    wanted = {"model": model, "version": "1", **labels}
    for found, listed, number in re.findall(r"^(\w+)\{(.*)\} (\S+)$", running.get("/metrics").body.decode(), re.M):
        if found == name and dict(re.findall(r'(\w+)="([^"]*)"', listed)) == wanted:
            return float(number)
    return 0.0


def wait_metric(running: Gateway, name: str, model: str, at_least: float, **labels: str) -> None:
    while metric(running, name, model, **labels) < at_least:
        pass  # each turn is a scrape


def send_without_reading(running: Gateway, path: str, body: dict[str, Any]) -> socket.socket:
    host, port = running.http.split(":")
    sock = socket.create_connection((host, int(port)))
    raw = json.dumps(body).encode()
    sock.sendall(b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (path.encode(), len(raw), raw))
    return sock


def test_requests_that_gather_run_as_one_batch(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml="queue_delay_ms = 60000\nmax_batch_size = 6")
    running = gateway(repository).wait_ready()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda rows: running.infer("m", row(rows, rows)["inputs"]), (1, 2, 3)))
    assert answers == [{"y": [[2 * rows] * 4] * rows} for rows in (1, 2, 3)]
    assert metric(running, "modelport_executions_total", "m") == 1
    assert metric(running, "modelport_batch_rows_sum", "m") == 6


@pytest.mark.parametrize(("value", "status"), [(400, 400), (500, 500), (501, 501), (507, 507)])
def test_one_bad_request_never_fails_its_neighbours(gateway: Start, tmp_path: Path, value: int, status: int) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml="queue_delay_ms = 60000\nmax_batch_size = 4")
    running = gateway(repository).wait_ready()
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda x: running.post("/predict/m", row(x)), (1, 2, value, 3)))
    assert [reply.status for reply in replies] == [200, 200, status, 200]
    assert [reply.json()["outputs"]["y"][0][0] for reply in replies if reply.status == 200] == [2, 4, 6]
    assert "Traceback" not in replies[2].body.decode()


def test_a_request_larger_than_a_batch_is_computed_in_pieces(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml="max_batch_size = 4")
    running = gateway(repository).wait_ready()
    values = np.arange(44, dtype=np.float32).reshape(11, 4) + 1000
    assert (ask_grpc(running, "m", {"x": values})["y"] == values * 2).all()


def test_declared_batch_sizes_are_padded_and_cut_back(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    # The model adds the mean over all elements, which shows the padding: copies of the last row.
    add_fake(repository, "m", toml="max_batch_size = 4\nbatch_sizes = [4]", not_batchable=True)
    running = gateway(repository).wait_ready()
    assert running.infer("m", {"x": [[1] * 4, [5] * 4]}) == {"y": [[2 + 4] * 4, [10 + 4] * 4]}


def test_batching_is_off_where_it_is_not_true(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", not_batchable=True)
    running = gateway(repository).wait_ready()
    running.wait_for("m version 1 is READY, batching is off: output 'y' of requests that run together differs")


def test_what_a_client_left_behind_is_not_computed(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "slow", toml=ONE_BY_ONE, seconds_per_batch=1.0)
    running = gateway(repository).wait_ready()
    with Load(running.http, "/predict/slow", lambda _: row(1), clients=1, most=1) as load:
        wait_metric(running, "modelport_requests_in_flight", "slow", 1)
        # The first of these waits at the worker, and the others wait in the front.
        left = [send_without_reading(running, "/predict/slow", row(2)) for _ in range(4)]
        wait_metric(running, "modelport_requests_in_flight", "slow", 5)
        for sock in left:
            sock.close()
        wait_metric(running, "modelport_requests_total", "slow", 4, outcome="cancelled")
        load.wait_total(1)
    assert running.infer("slow", row(3)["inputs"]) == {"y": [[6] * 4]}
    assert metric(running, "modelport_executions_total", "slow") == 2


def test_what_is_past_its_deadline_is_not_computed(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "slow", toml=ONE_BY_ONE, seconds_per_batch=1.0)
    running = gateway(repository).wait_ready()
    body = {
        "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}],
        "parameters": {"timeout": 50_000},
    }
    with Load(running.http, "/predict/slow", lambda _: row(1), clients=1, most=1) as load:
        wait_metric(running, "modelport_requests_in_flight", "slow", 1)
        reply = running.post("/v2/models/slow/infer", body)
        load.wait_total(1)
    assert (reply.status, reply.json()) == (504, {"error": "the deadline passed before the model answered"})
    assert running.infer("slow", row(3)["inputs"]) == {"y": [[6] * 4]}
    assert metric(running, "modelport_executions_total", "slow") == 2


def test_a_grpc_deadline_is_kept(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "slow", toml=ONE_BY_ONE, seconds_per_batch=2.0)
    running = gateway(repository).wait_ready()
    request = pb.ModelInferRequest(model_name="slow", raw_input_contents=[np.ones(4, np.float32).tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    with grpc.insecure_channel(running.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(request.SerializeToString(), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_over_the_admission_limit_is_429_with_retry_after(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "slow", toml=ONE_BY_ONE, seconds_per_batch=1.0)
    running = gateway(repository, "--max-requests", "2").wait_ready()
    with Load(running.http, "/predict/slow", lambda _: row(1), clients=2, most=1) as load:
        wait_metric(running, "modelport_requests_in_flight", "slow", 2)
        reply = running.post("/predict/slow", row(2))
        with pytest.raises(grpc.RpcError) as caught:
            ask_grpc(running, "slow", {"x": np.ones((1, 4), np.float32)})
        load.wait_total(2)
    assert reply.status == 429
    assert {key.lower(): value for key, value in reply.headers.items()}["retry-after"] == "1"
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ("retry-after", "1") in [(key, value) for key, value in caught.value.trailing_metadata()]
    assert load.failures() == []


def test_bytes_under_way_are_limited_too(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository", "--max-admitted-bytes", "100").wait_ready()
    assert running.post("/predict/m", row(1, rows=6)).status == 200
    assert running.post("/predict/m", row(1, rows=7)).status == 429


def test_an_answer_over_the_limit_is_refused_and_the_model_lives_on(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository", "--max-response-bytes", "100").wait_ready()
    reply = running.post("/predict/m", row(1, rows=7))
    assert (reply.status, "the limit is 100" in reply.json()["error"]) == (413, True)
    assert running.post("/predict/m", row(1, rows=6)).status == 200


def test_lower_priority_numbers_are_answered_first(gateway: Start, tmp_path: Path) -> None:
    repository, gate = tmp_path / "repository", tmp_path / "gate"
    gate.touch()  # loading runs the model
    add_fake(repository, "slow", toml=ONE_BY_ONE, seconds_per_batch=0.3, waits_for=str(gate))
    running = gateway(repository).wait_ready()
    gate.unlink()
    order: list[int] = []

    def ask(priority: int) -> None:
        connection = http.client.HTTPConnection(running.http)
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
        body = {"inputs": [tensor], "parameters": {"priority": priority}}
        connection.request("POST", "/v2/models/slow/infer", json.dumps(body))
        assert connection.getresponse().read()
        order.append(priority)
        connection.close()

    with ThreadPoolExecutor(8) as pool:
        for count, priority in enumerate([5, 5, 5, 5, 5, 1], start=1):
            pool.submit(ask, priority)
            wait_metric(running, "modelport_requests_in_flight", "slow", count)
        gate.touch()
    # Three had reached the worker or were running when the urgent one came; it overtook the rest.
    assert order.index(1) < len(order) - 2


@pytest.mark.parametrize("age", ["oldest", "newest"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_workers_run_on_the_oldest_and_the_newest_python(
    gateway: Start, tmp_path: Path, numpy_python: Callable[[str], Path], age: str, protocol: str
) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    running = gateway(repository, "--python", f"fake={numpy_python(age)}").wait_ready()
    values = np.arange(4, dtype=np.float32).reshape(1, 4)
    ask: Ask = PROTOCOLS[protocol]
    assert (ask(running, "m", {"x": values})["y"] == values * 2).all()
    assert running.terminate() == 0


def test_grpc_health_and_reflection(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository").wait_ready()
    with grpc.insecure_channel(running.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        # As grpcurl does: it has no proto file, and asks the server for the messages.
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        asked = {
            "inference.GRPCInferenceService": ("ModelReady", {"name": "m"}, {"ready": True}),
            "grpc.health.v1.Health": ("Check", {"service": "inference.GRPCInferenceService"}, {"status": "SERVING"}),
            "tensorflow.serving.ModelService": (
                "GetModelStatus",
                {"model_spec": {"name": "m"}},
                {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {}}]},
            ),
        }
        assert {*asked, "tensorflow.serving.PredictionService"} <= set(database.get_services())
        for service, (name, question, answer) in asked.items():
            method = pool.FindServiceByName(service).methods_by_name[name]
            request = ParseDict(question, GetMessageClass(method.input_type)())
            call = channel.unary_unary(f"/{service}/{name}")
            message = GetMessageClass(method.output_type).FromString(call(request.SerializeToString(), timeout=60))
            assert MessageToDict(message, preserving_proto_field_name=True) == answer
        for service in asked.keys() - {"grpc.health.v1.Health"}:
            checked = health_pb2.HealthCheckRequest(service=service)
            assert health_pb2_grpc.HealthStub(channel).Check(checked).status == health_pb2.HealthCheckResponse.SERVING
    assert grpc_call(running, "ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready


def add_runtime(scratch: Path, name: str, requirement: str) -> None:
    """Install a third-party runtime: a package with the two files, and an entry point."""
    package, info = scratch / "plugin" / name, scratch / "plugin" / f"{name}-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "runtime.py").write_text("def load(options): raise NotImplementedError\n")
    (package / "runtime.toml").write_text(
        f'title = "{name.title()}"\npythons = ">=3.8"\n[requirements]\ncpu = ["{requirement}"]\n'
        f'[download_mb]\ncpu = 1\n[[formats]]\nplatform = "{name}"\nfiles = ["*.{name}"]\n'
    )
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[modelport.runtimes]\n{name} = {name}\n")


def add_artifact(repository: Path, name: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1" / f"model.{name}").touch()


def test_an_environment_that_cannot_be_built_says_why_and_the_others_serve(gateway: Start, tmp_path: Path) -> None:
    add_runtime(tmp_path, "impossible", "modelport-no-such-package==1")
    add_artifact(tmp_path / "repository", "impossible")
    add_fake(tmp_path / "repository", "good")
    running = gateway(tmp_path / "repository", PIP_NO_INDEX="1", MODELPORT_HOME=str(tmp_path / "home")).wait_ready()
    reason = running.index()["impossible", "1"]["reason"]
    assert "modelport-no-such-package" in reason
    assert running.post("/predict/impossible", row(1)).json() == {
        "error": f"model 'impossible' is UNAVAILABLE: {reason}"
    }
    assert running.infer("good", row(1)["inputs"]) == {"y": [[2] * 4]}


def test_live_while_building_and_not_ready_before_all_have_settled(gateway: Start, tmp_path: Path) -> None:
    add_runtime(tmp_path, "waiting", "modelport-waiting==1")
    add_artifact(tmp_path / "repository", "waiting")
    add_fake(tmp_path / "repository", "good")
    with socket.create_server(("127.0.0.1", 0)) as silent_index:
        index = f"http://127.0.0.1:{silent_index.getsockname()[1]}/simple"
        environment = {"PIP_INDEX_URL": index, "PIP_EXTRA_INDEX_URL": "", "MODELPORT_HOME": str(tmp_path / "home")}
        running = gateway(tmp_path / "repository", **environment)
        running.wait_for(r"waiting: building its environment \(only once; about 1 MB to download; not locked\)")
        running.wait_for(r"front\.\d+: serving")
        silent_index.accept()[0].close()  # pip has sent a request, so the build is in progress
        running.wait_served("good")
        assert running.infer("good", row(1)["inputs"]) == {"y": [[2] * 4]}
        assert running.get("/v2/health/live").status == 200
        assert running.get("/v2/health/ready").status == 503
        entry = running.index()["waiting", "1"]
        assert entry["state"] == "LOADING"
        assert entry["reason"].startswith("building the waiting environment: ")
        assert running.post("/predict/waiting", row(1)).status == 503
        assert running.terminate() == 0
