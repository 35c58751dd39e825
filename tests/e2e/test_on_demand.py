"""Models that their first request loads, and that leave memory for others: a real gateway, with real workers."""

import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.generated import open_inference_pb2 as pb
from gateway.process.resident import process_tree, resident
from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake

Start = Callable[..., Gateway]

_X = {"x": [[1, 2, 3, 4]]}
_TARGET = {"X-Amzn-SageMaker-Target-Model": "m", "Content-Type": "application/json"}
_Y = {"y": [[2, 4, 6, 8]]}


def state(running: Gateway, model: str) -> str:
    return running.index()[model, "1"]["state"]


def sample(running: Gateway, metric: str) -> float:
    found = re.search(rf"^{metric} (\S+)$", running.get("/metrics").body.decode(), re.M)
    assert found, metric
    return float(found[1])


def memory(running: Gateway) -> int:
    """Return the bytes of all processes of a gateway.

    The metric may be two seconds old, and know nothing of the process that the workers are copies of.
    """
    return sum(resident(pid).share for pid in process_tree(running.process.pid))


def add_table(repository: Path, name: str, value: float) -> None:
    """A model of 12 MB that looks up rows of a table, all of which have its own value."""
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    rows = helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])
    values = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    table = numpy_helper.from_array(np.full(3 << 20, value, np.float32), "table")
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    graph = helper.make_graph([node], "table", [rows], [values], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")


def infer_by_grpc(running: Gateway, model: str) -> list[float]:
    request = pb.ModelInferRequest(model_name=model)
    given = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    given.contents.fp32_contents.extend(_X["x"][0])
    with grpc.insecure_channel(running.grpc) as channel:
        call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answer = pb.ModelInferResponse.FromString(call(request.SerializeToString(), timeout=60))
    return np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() or list(
        answer.outputs[0].contents.fp32_contents
    )


def test_the_first_requests_of_all_protocols_wait_for_one_load(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "r", "m", load_seconds=0.3, prints="it is loaded now")
    add_fake(tmp_path / "r", "other", toml='load = "always"')
    running = gateway(tmp_path / "r", "--load", "on_demand", "--fronts", "2").wait_ready()
    assert (state(running, "m"), state(running, "other")) == ("UNLOADED", "READY")
    assert running.get("/v2/models/m/ready").status == 503
    asked = [
        (lambda: running.infer("m", _X)["y"], _Y["y"]),
        (lambda: running.post("/v1/models/m:predict", {"inputs": _X}).json()["outputs"], _Y["y"]),
        (lambda: running.post("/predictions/m", {"inputs": _X}).json(), _Y["y"]),
        (
            lambda: running.post(
                "/v2/models/m/infer",
                {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": _X["x"]}]},
            ).json()["outputs"][0]["data"],
            _Y["y"][0],
        ),
        (lambda: running.post("/invocations", {"inputs": _X}, _TARGET).json()["predictions"], _Y),
        (lambda: running.get("/v2/models/m").json()["inputs"], [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]),
        (lambda: infer_by_grpc(running, "m"), _Y["y"][0]),
    ]  # fmt: skip
    with ThreadPoolExecutor(len(asked) * 4) as pool:
        answers = [(pool.submit(ask), expected) for ask, expected in asked * 4]
    for answer, expected in answers:
        assert answer.result() == expected
    assert sum("it is loaded now" in line for line in running.log) == 1
    assert sample(running, "modelport_on_demand_loads_total") == 1
    assert sample(running, "modelport_cold_start_duration_seconds_count") == 1
    assert state(running, "m") == "READY"


@pytest.mark.runtime("onnx")
def test_models_leave_and_return_under_load_without_a_failed_request(gateway: Start, tmp_path: Path) -> None:
    names = {f"m{number}": float(number) for number in range(8)}
    for name, value in names.items():
        add_table(tmp_path / "r", name, value)

    def ask(running: Gateway, name: str) -> bool:
        return bool(running.infer(name, {"x": [7]}) == {"y": [names[name]]})

    flags = "--load", "on_demand", "--fronts", "2"
    measured = gateway(tmp_path / "r", *flags, "--memory-limit", "64GiB").wait_ready()
    assert all(ask(measured, name) for name in list(names)[:3])
    limit = memory(measured) + (24 << 20)
    measured.close()

    running = gateway(tmp_path / "r", *flags, "--memory-limit", str(limit)).wait_ready()
    random = Random(0)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, running, random.choice(list(names))) for _ in range(120)]
    assert all(each.result() for each in asked)
    assert sample(running, "modelport_evictions_total") > 3
    assert memory(running) <= limit
    assert not [line for line in running.log if "ERROR" in line or "while it was being unloaded" in line]


def test_what_does_not_fit_is_507_and_what_is_pinned_stays(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "r"
    add_fake(repository, "pinned", toml="pinned = true", allocate_mb=60, prints="pinned is loaded")
    add_fake(repository, "a", allocate_mb=60)
    add_fake(repository, "b", allocate_mb=60)
    add_fake(repository, "large", allocate_mb=900)
    flags = "--load", "on_demand"
    measured = gateway(repository, *flags, "--memory-limit", "64GiB").wait_ready()
    for name in ("pinned", "a"):
        assert measured.infer(name, _X) == _Y
    limit = memory(measured) + (30 << 20)
    measured.close()

    running = gateway(repository, *flags, "--memory-limit", str(limit)).wait_ready()
    assert running.infer("pinned", _X) == _Y
    for _ in range(2):
        for name in ("a", "b"):
            assert running.infer(name, _X) == _Y
    reply = running.post("/predict/large", {"inputs": _X})
    assert reply.status == 507
    assert re.search(r"of memory.* raise memory_limit, or serve fewer models", reply.json()["error"])
    running.wait_for(r"large version 1 is UNAVAILABLE")
    with pytest.raises(grpc.RpcError) as refused:
        infer_by_grpc(running, "large")
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert running.infer("b", _X) == _Y
    assert state(running, "pinned") == "READY"
    assert sum("pinned is loaded" in line for line in running.log) == 1


def test_a_worker_that_is_killed_while_it_loads_is_replaced(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "r", "m", load_seconds=1.0)
    running = gateway(tmp_path / "r", "--load", "on_demand").wait_ready()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(running.infer, "m", _X)
        while not (pids := running.worker_pids("m")):
            pass  # each turn is a scrape
        os.kill(pids[0], signal.SIGKILL)
        running.wait_for(r"m version 1: its worker was killed by SIGKILL; restarting")
        assert answer.result() == _Y


def test_requests_that_wait_learn_why_a_model_is_not_loaded(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "r"
    add_fake(repository, "broken", load_seconds=0.2, load_error="it has no weights")
    add_fake(repository, "slow", load_seconds=600)
    running = gateway(repository, "--load", "on_demand").wait_ready()
    with ThreadPoolExecutor(5) as pool:
        broken = [pool.submit(running.post, "/predict/broken", {"inputs": _X}) for _ in range(4)]
        slow = pool.submit(running.post, "/predict/slow", {"inputs": _X})
        for reply in (each.result() for each in broken):
            assert (reply.status, "it has no weights" in reply.json()["error"]) == (503, True)
        while not running.worker_pids("slow"):
            pass  # each turn is a scrape
        assert running.post("/v2/repository/models/slow/unload").status == 200
        assert (slow.result().status, "was unloaded" in slow.result().json()["error"]) == (503, True)
    assert running.index()["slow", "1"]["state"] in ("UNLOADING", "UNAVAILABLE")
    add_fake(repository, "broken")
    assert running.post("/v2/repository/models/broken/load").status == 200
    assert running.infer("broken", _X) == _Y


def test_new_files_are_loaded_by_the_next_request_or_at_once_if_the_old_ones_are_loaded(
    gateway: Start, tmp_path: Path
) -> None:
    repository = tmp_path / "r"
    for name in ("loaded", "unloaded"):
        add_fake(repository, name)
    running = gateway(repository, "--load", "on_demand").wait_ready()
    assert running.infer("loaded", _X) == _Y
    for name in ("loaded", "unloaded"):
        add_fake(repository, name, prints=f"the second content of {name}")
    running.wait_for("the second content of loaded")
    assert running.infer("loaded", _X) == _Y
    assert state(running, "unloaded") == "UNLOADED"
    assert not any("the second content of unloaded" in line for line in running.log)
    assert running.infer("unloaded", _X) == _Y
    running.wait_for("the second content of unloaded")


@pytest.mark.runtime("python")
def test_a_model_that_calls_another_one_has_it_loaded(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "r"
    add_fake(repository, "called")
    (repository / "caller" / "1").mkdir(parents=True)
    (repository / "caller" / "1" / "model.py").write_text(
        "class Model:\n"
        "    def load(self, context):\n"
        "        self.call = context.call\n\n"
        '    def predict(self, x: "FP32[-1, 4]") -> {"y": "FP32[-1, 4]"}:\n'
        '        return {"y": self.call("called", {"x": x})["y"]}\n'
    )
    running = gateway(repository, "--load", "on_demand", "--allow-python").wait_ready()
    assert running.infer("caller", _X) == _Y
    assert state(running, "called") == "READY"


def test_the_steps_of_a_pipeline_are_loaded_when_it_is_used(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "r"
    for name in ("first", "second"):
        add_fake(repository, name)
    (repository / "both" / "1").mkdir(parents=True)
    (repository / "both" / "model.toml").write_text(
        '[[steps]]\nmodel = "first"\ninputs = {x = "x"}\noutputs = {y = "z"}\n'
        '[[steps]]\nmodel = "second"\ninputs = {x = "z"}\noutputs = {y = "y"}\n'
    )
    running = gateway(repository, "--load", "on_demand").wait_ready()
    assert {state(running, name) for name in ("first", "second", "both")} == {"UNLOADED"}
    assert running.infer("both", _X) == {"y": [[4, 8, 12, 16]]}
    assert {state(running, name) for name in ("first", "second", "both")} == {"READY"}
