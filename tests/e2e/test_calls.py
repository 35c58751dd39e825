"""Models that call other models, with real processes: both forms of Python models, faults, and two fronts."""

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway, Reply, start_gateway
from tests.support.model_repositories import add_fake
from tests.support.triton_examples import backend_example

# Calls the model that is named by the first number, in a way that the second one selects.
OWN = """
from concurrent.futures import ThreadPoolExecutor
import modelport

class Model:
    def load(self, context):
        self.call, self.stream = context.call, context.stream

    def predict(self, x: "FP32[-1, 4]", target: "BYTES[1]") -> "FP32[-1, 4]":
        name = target[0].decode()
        if name.startswith("stream "):
            return sum(answer["y"] for answer in self.stream(name[7:], {"x": x}))
        if name.startswith("first of "):
            for answer in self.stream(name[9:], {"x": x}):
                return answer["y"]
        if name.startswith("threads "):
            with ThreadPoolExecutor(8) as pool:
                answers = pool.map(lambda number: self.call(name[8:], {"x": x + number})["y"], range(100))
                return sum(answers)
        if name.startswith("tries "):
            try:
                self.call(name[6:], {"x": x})
            except modelport.CallFailed as error:
                print("the call has failed:", error.kind, error)
                return x
        return self.call(name, {"x": x}, ["y"])["y"]
"""
CHAIN = """
class Model:
    def load(self, context):
        self.call = context.call

    def predict(self, x: "FP32[-1, 4]") -> {"y": "FP32[-1, 4]"}:
        return self.call("%s", {"x": x})
"""
HANGS = """
class Model:
    def predict(self, x: "FP32[-1, 4]") -> {"y": "FP32[-1, 4]"}:
        while (x == 777).any():
            pass
        leak = []
        while (x == 507).any():
            leak.append(bytes(1 << 22) + b"x")
        if (x == 30).any():
            for _ in range(30):
                print("z" * 1_000_000)
        return x
"""
# Uses what the worker has itself: frames that no worker sends.
HOSTILE = """
from runtimes import wire

class Model:
    def load(self, context):
        self.calls = context.call.__self__._calls
        self.call = context.call

    def predict(self, x: "FP32[-1, 4]") -> {"y": "FP32[-1, 4]"}:
        ((source, numbers),) = self.calls.parents
        if (x == 1).any():
            self.calls._send(source, wire.pack(wire.CALL, numbers[0], [b"junk"]))
        if (x == 2).any():
            self.calls.parents = [(source, [1 << 50])]
        return self.call("plain", {"x": x})
"""
TRITON = """
import asyncio
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    async def execute(self, requests):
        return [await self.answer(request) for request in requests]

    async def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "x")
        (how,) = pb_utils.get_input_tensor_by_name(request, "how").as_numpy()

        def call(name, **others):
            return pb_utils.InferenceRequest(
                model_name=name, requested_output_names=["y"], inputs=[pb_utils.Tensor("x", x.as_numpy())], **others
            )

        if how == b"gather":
            answers = await asyncio.gather(*[call("plain").async_exec() for _ in range(100)])
        elif how == b"exec":
            answers = [call("plain", model_version=1, request_id="7", timeout=10_000_000).exec()]
        elif how in (b"decoupled", b"chain"):
            answers = list(call("three" if how == b"decoupled" else "chain").exec(decoupled=True))
        elif how == b"async decoupled":
            answers = [each async for each in await call("three").async_exec(decoupled=True)]
        elif how == b"threads":
            loop = asyncio.get_running_loop()
            answers = await asyncio.gather(*[loop.run_in_executor(None, call("plain").exec) for _ in range(20)])
        else:
            response = call(how.decode()).exec()
            if response.error().code() == pb_utils.TritonError.NOT_FOUND:
                return pb_utils.InferenceResponse(error=response.error())
            raise pb_utils.TritonModelException(response.error().message())
        arrays = [pb_utils.get_output_tensor_by_name(each, "y").as_numpy() for each in answers]
        return pb_utils.InferenceResponse([pb_utils.Tensor("sum", sum(arrays))])
"""
# A pipeline whose step calls the pipeline.
ROUND = """
[[steps]]
model = "step"
inputs = { x = "x" }
outputs = { y = "y" }
"""
# Two decoupled models, one in each form, in a pipeline. The first counts up to its input, and the second answers that
# often to each number: not at all to 0.
COUNTS = """
from modelport import InvalidInput

class Model:
    def predict(self, x: "FP32[-1, 4]") -> {"y": "FP32[-1, 4]"}:
        for number in range(int(x[0, 0])):
            if number == 3:
                raise InvalidInput("it counts to 3")
            yield x * 0 + number
"""
REPEATS = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            sender = request.get_response_sender()
            for number in range(int(x[0, 0])):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("y", 10 * x + number)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
REPEATS_PBTXT = """
backend: "python"
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] } ]
model_transaction_policy { decoupled: true }
"""
COUNTS_AND_REPEATS = """
[[steps]]
model = "counts"
inputs = { x = "x" }
outputs = { y = "number" }
[[steps]]
model = "plain"
inputs = { x = "number" }
outputs = { y = "twice" }
[[steps]]
model = "repeats"
inputs = { x = "twice" }
outputs = { y = "y" }
"""
PBTXT = """
backend: "python"
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1, 4 ] }, { name: "how" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "sum" data_type: TYPE_FP32 dims: [ 1, 4 ] } ]
"""
ONES = [[1.0] * 4]


def add_python(repository: Path, name: str, source: str, **configuration: str) -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(source)
    for kind, text in configuration.items():
        (folder.parent / {"toml": "model.toml", "pbtxt": "config.pbtxt"}[kind]).write_text(text)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calls")


@pytest.fixture(scope="module")
def running(scratch: Path) -> Iterator[Gateway]:
    repository = scratch / "repository"
    add_python(repository, "own", OWN, toml="max_batch_size = 0\nwarmup = 0")
    add_python(repository, "triton", TRITON, pbtxt=PBTXT)
    for name, called in (("self", "self"), ("ping", "pong"), ("pong", "ping")):
        add_python(repository, name, CHAIN % called)
    declared = "max_batch_size = 0\nwarmup = 0\n"
    add_python(repository, "patient", CHAIN % "slow", toml=declared + "execution_timeout_s = 1")
    add_python(repository, "hangs", HANGS, toml=declared + "execution_timeout_s = 1")
    add_python(repository, "prints", HANGS, toml=declared)
    add_python(repository, "leaks", HANGS, toml=declared + "memory_limit = '300MiB'")
    add_python(repository, "hostile", HOSTILE, toml=declared)
    add_python(repository, "step", CHAIN % "round")
    (repository / "round" / "1").mkdir(parents=True)
    (repository / "round" / "model.toml").write_text(ROUND)
    add_python(repository, "counts", COUNTS, toml=declared)
    add_python(repository, "repeats", REPEATS, pbtxt=REPEATS_PBTXT)
    (repository / "chain" / "1").mkdir(parents=True)
    (repository / "chain" / "model.toml").write_text(COUNTS_AND_REPEATS)
    add_fake(repository, "slow", toml=declared, waits_for=str(scratch / "slow"))
    add_fake(repository, "plain", toml="instances = 2")
    add_fake(repository, "three", answers=3)
    add_fake(repository, "many", answers=100_000)
    add_fake(repository, "gated", toml="max_batch_size = 0\nwarmup = 0", waits_for=str(scratch / "gate"))
    add_fake(repository, "broken", load_error="this one never loads")
    add_fake(repository, "crashes")
    gateway = start_gateway(repository, scratch, "--fronts", "2", "--allow-python").wait_ready()
    yield gateway
    gateway.close()


def own(running: Gateway, target: str, value: float = 1.0) -> Reply:
    return running.post("/predict/own", {"inputs": {"x": [[value] * 4], "target": [target]}})


def triton(running: Gateway, how: str, value: float = 1.0) -> Reply:
    return running.post("/predict/triton", {"inputs": {"x": [[value] * 4], "how": [how]}})


def first(reply: Reply) -> float:
    assert reply.status == 200, reply
    ((outputs),) = reply.json()["outputs"].values()
    return float(outputs[0][0])


def test_a_model_calls_another(running: Gateway) -> None:
    for number in range(10):
        assert first(own(running, "plain", number)) == 2.0 * number
    assert first(own(running, "threads plain")) == sum(2.0 * (1 + number) for number in range(100))
    assert first(own(running, "stream three")) == 2.0 + 3.0 + 4.0


@pytest.mark.parametrize(
    ("how", "result"),
    [("exec", 2.0), ("gather", 200.0), ("threads", 40.0), ("decoupled", 9.0), ("async decoupled", 9.0)],
)
def test_triton_s_form_calls_others(running: Gateway, how: str, result: float) -> None:
    assert first(triton(running, how)) == result


def test_decoupled_python_models_in_a_row(running: Gateway) -> None:
    def events(value: float) -> list[object]:
        reply = running.post("/v2/models/chain/generate_stream", {"x": [[value] * 4]})
        answers = [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: ")]
        return [answer["y"][0] if "y" in answer else answer["error"] for answer in answers]

    every = [20.0, 21.0, 40.0, 41.0, 42.0, 43.0]  # and nothing for the first number
    failed = "step 1 (model counts): it counts to 3"
    assert events(3.0) == every
    assert events(1.0) == []
    assert events(4.0) == [*every, f"pipeline 'chain', {failed}"]
    assert first(own(running, "stream chain", 3.0)) == sum(every)
    assert first(own(running, "first of chain", 3.0)) == every[0]
    assert first(triton(running, "chain", 3.0)) == sum(every)
    reply = own(running, "stream chain", 4.0)
    assert (reply.status, reply.json()["error"]) == (
        500,
        f"model 'chain', which this model calls, has failed: {failed}",
    )
    assert events(3.0) == every  # what a model has left is free for others


def test_a_stream_that_is_not_read_to_its_end_is_cancelled(running: Gateway) -> None:
    mark = len(running.log)
    assert first(own(running, "first of many")) == 2.0
    given_up = running.wait_for(r"the request was given up after (\d+) answers", mark)
    assert int(given_up[1]) < 1000


def test_a_call_that_fails_is_said_in_one_sentence(running: Gateway) -> None:
    def said(target: str, value: float = 1.0) -> tuple[int, str]:
        reply = own(running, target, value)
        return reply.status, reply.json()["error"]

    prefix = "model '{}', which this model calls, has failed: "
    assert said("plain", 400.0) == (500, prefix.format("plain") + "an input holds the value 400")
    assert said("missing")[0] == 500
    assert "there is no model 'missing'" in said("missing")[1]
    assert said("broken") == (
        503,
        prefix.format("broken") + "model 'broken' is UNAVAILABLE: this one never loads",
    )
    status, message = said("crashes", 666.0)
    assert (status, "worker died" in message) == (500, True)
    status, message = said("three")
    assert (status, "is decoupled" in message) == (500, True)
    assert triton(running, "missing").status == 500
    assert "there is no model 'missing'" in triton(running, "missing").json()["error"]
    assert "UNAVAILABLE" in triton(running, "broken").json()["error"]
    mark = len(running.log)
    assert first(own(running, "tries missing")) == 1.0
    running.wait_for("the call has failed: not_found .*there is no model 'missing'", mark)


@pytest.mark.parametrize(
    ("model", "path"), [("self", "self → self"), ("ping", "ping → pong → ping"), ("round", "round → step → round")]
)
def test_a_model_cannot_wait_for_itself(running: Gateway, model: str, path: str) -> None:
    reply = running.post(f"/predict/{model}", {"inputs": {"x": ONES}})
    assert reply.status == 500
    assert path in reply.json()["error"]


def test_time_spent_waiting_for_another_model_is_not_the_model_s(running: Gateway, scratch: Path) -> None:
    """It waits until another model with the same limit, which began later, has been killed for exceeding it."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(running.post, "/predict/patient", {"inputs": {"x": ONES}})
        running.wait_in_flight("slow")
        mark = len(running.log)
        reply = own(running, "hangs", 777.0)
        assert (reply.status, "worker died" in reply.json()["error"]) == (500, True)
        running.wait_for(r"hangs version 1.*a batch ran for longer than execution_timeout_s", mark)
        (scratch / "slow").touch()
        assert first(waiting.result()) == 2.0
    assert first(own(running, "plain")) == 2.0


def test_a_called_model_that_leaks_is_one_error(running: Gateway) -> None:
    reply = own(running, "leaks", 507.0)
    assert (reply.status, "memory" in reply.json()["error"]) == (507, True)
    assert first(own(running, "plain")) == 2.0


def test_a_called_model_that_prints_much_fills_nothing(running: Gateway) -> None:
    mark = len(running.log)
    assert first(own(running, "prints", 30.0)) == 30.0
    assert first(own(running, "plain")) == 2.0
    assert sum(map(len, running.log[mark:])) < 4_000_000


@pytest.mark.parametrize(("number", "words"), [(1.0, "worker died"), (2.0, "was answered already")])
def test_a_hostile_worker_hurts_itself_only(running: Gateway, number: float, words: str) -> None:
    reply = running.post("/predict/hostile", {"inputs": {"x": [[number] * 4]}})
    assert (reply.status, words in reply.json()["error"]) == (500, True)
    assert first(running.post("/predict/hostile", {"inputs": {"x": [[5.0] * 4]}})) == 10.0


def test_a_call_is_cancelled_when_the_client_leaves(running: Gateway, scratch: Path) -> None:
    host, _, port = running.http.partition(":")
    body = json.dumps({"inputs": {"x": ONES, "target": ["gated"]}}).encode()
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /predict/own HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        running.wait_in_flight("gated", 1)
    cancelled = re.compile(r'modelport_requests_total\{.*model="gated",.*outcome="cancelled".*\} 1.0')
    while not cancelled.search(running.get("/metrics").body.decode()):
        pass  # each turn is a scrape
    (scratch / "gate").touch()
    assert first(own(running, "gated")) == 2.0


def test_nothing_is_lost_when_a_worker_of_the_called_model_is_killed(running: Gateway) -> None:
    killed = threading.Event()

    def ask(number: int) -> float:
        if number == 40:
            # One of two: what it ran is sent once more, and the other one must not end meanwhile.
            os.kill(running.worker_pids("plain")[0], signal.SIGKILL)
            killed.set()
        return first(own(running, "plain", number))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(200))) == [2.0 * number for number in range(200)]
    assert killed.is_set()


def test_a_call_counts_as_a_request(running: Gateway) -> None:
    def count() -> int:
        (stats,) = running.get("/v2/models/three/stats").json()["model_stats"]
        return int(stats["inference_count"])

    before = count()
    assert first(own(running, "stream three")) == 9.0
    while count() < before + 1:
        pass  # each turn is a request: fronts report once a second


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Triton's examples of models that call others. Any model that adds does for theirs in PyTorch."""
    top = tmp_path_factory.mktemp("examples")
    models = {f"bls_{kind}": f"bls/{kind}_" for kind in ("sync", "async")}
    models |= {f"bls_decoupled_{kind}": f"bls_decoupled/{kind}_" for kind in ("sync", "async")}
    models |= {"square_int32": "decoupled/square_", "add_sub": "add_sub/", "pytorch": "add_sub/"}
    for name, prefix in models.items():
        pbtxt = backend_example(prefix + "config.pbtxt").read_text().replace('"add_sub"', f'"{name}"')
        add_python(top / "repository", name, backend_example(prefix + "model.py").read_text(), pbtxt=pbtxt)
    gateway = start_gateway(top / "repository", top, "--allow-python").wait_ready()
    yield gateway
    gateway.close()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("bls/sync_client.py", "PASS: BLS Sync"),
        ("bls/async_client.py", "PASS: BLS Async"),
        ("bls_decoupled/sync_client.py", "PASS: BLS Decoupled Sync"),
        ("bls_decoupled/async_client.py", "PASS: BLS Decoupled Async"),
    ],
)
def test_triton_s_examples_pass(examples: Gateway, program: str, said: str) -> None:
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    script = Path(__file__).parent / "triton_bls_script.py"
    assert said in run_client(python, script, examples.http, str(backend_example(program)))
