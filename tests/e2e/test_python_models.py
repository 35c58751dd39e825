"""Models that are Python programs, in both forms, in real environments: with and without the operator's permission."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtimes.sandbox import landlock, seccomp
from tests.e2e.test_failures import row
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway, start_gateway

OWN = """
from modelport import InvalidInput

class Model:
    def load(self, context):
        print("the factor is", context.parameters["factor"])
        self.factor = context.parameters["factor"]

    def predict(self, x: "FP32[-1, 4]", text: "BYTES[-1, 1]") -> {"y": "FP32[-1, 4]", "loud": "BYTES[-1, 1]"}:
        if (x == 400).any():
            raise InvalidInput("400 is too much for this model")
        if (x == 500).any():
            raise RuntimeError("the model's own secret")
        return {"y": x * self.factor, "loud": [[each.decode().upper()] for [each] in text]}
"""
TRITON = """
import json
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.dtype = pb_utils.triton_string_to_numpy(pb_utils.get_output_config_by_name(config, "SUM")["data_type"])
        pb_utils.Logger.log_info("mode is " + config["parameters"]["mode"]["string_value"])

    def execute(self, requests):
        responses = []
        for request in requests:
            a, b = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("A", "B"))
            if (a == 400).any():
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("A holds 400")))
                continue
            total = pb_utils.Tensor("SUM", (a + b).astype(self.dtype))
            responses.append(pb_utils.InferenceResponse([total]))
        return responses
"""
PBTXT = """
backend: "python"
max_batch_size: 8
input [ { name: "A" data_type: TYPE_INT32 dims: [ 2 ] }, { name: "B" data_type: TYPE_INT32 dims: [ 2 ] } ]
output [ { name: "SUM" data_type: TYPE_INT32 dims: [ 2 ] } ]
parameters { key: "mode" value: { string_value: "plain" } }
dynamic_batching { }
"""
DESCRIBING = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            has_b = pb_utils.get_input_tensor_by_name(request, "B") is not None
            said = [request.request_id(), json.loads(request.parameters()), has_b]
            text = np.array([[json.dumps(said)]], object)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("SAID", text)]))
        return responses
"""
DESCRIBING_PBTXT = """
backend: "python"
max_batch_size: 8
input [
  { name: "A" data_type: TYPE_INT32 dims: [ -1 ] },
  { name: "B" data_type: TYPE_INT32 dims: [ 2 ] optional: true }
]
output [ { name: "SAID" data_type: TYPE_STRING dims: [ 1 ] } ]
dynamic_batching { }
"""
REPEATING = """
import threading
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            thread = threading.Thread(target=self.send, args=(request.get_response_sender(), values))
            thread.daemon = True
            thread.start()

    def send(self, sender, values):
        for value in values.reshape(-1, 1):
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)]))
        if values.sum() >= 0:  # otherwise, it forgets to end the request
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
REPEATING_PBTXT = """
backend: "python"
model_transaction_policy { decoupled: true }
input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
COUNTING = """
class Model:
    def predict(self, x: "FP32[-1, 4]", times: "INT32[1]" = (2,)) -> "FP32[-1, 4]":
        for number in range(times[0]):
            yield x + number
"""
# A small package of pure Python, without dependencies.
PACKED = """
import iniconfig

class Model:
    def predict(self, x: "FP32[-1, 4]") -> "FP32[-1, 4]":
        return x * len(iniconfig.__name__)
"""
HOSTILE = """
import socket, subprocess

class Model:
    def predict(self, x: "FP32[-1, 4]") -> "FP32[-1, 4]":
        if (x == 11).any():
            socket.create_connection(("127.0.0.1", 9))
        if (x == 12).any():
            subprocess.run(["/bin/true"])
        if (x == 13).any():
            open("/etc/passwd")
        if (x == 14).any():
            open(__file__, "a")
        return x * 2
"""


def add(repository: Path, name: str, source: str, requirements: str = "", **configuration: str) -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(source)
    if requirements:
        (folder / "requirements.txt").write_text(requirements)
    for kind, text in configuration.items():
        (folder.parent / {"toml": "model.toml", "pbtxt": "config.pbtxt"}[kind]).write_text(text)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    top = tmp_path_factory.mktemp("python")
    repository = top / "repository"
    add(repository, "own", OWN, toml="max_batch_size = 8\n[parameters]\nfactor = 3")
    add(repository, "triton", TRITON, pbtxt=PBTXT)
    add(repository, "describing", DESCRIBING, pbtxt=DESCRIBING_PBTXT)
    add(repository, "repeating", REPEATING, pbtxt=REPEATING_PBTXT)
    add(repository, "counting", COUNTING)
    add(repository, "packed", PACKED, "iniconfig==2.1.0\n")
    add(repository, "impossible", PACKED, "iniconfig==0.0.0.1\n")
    add(repository, "hostile", HOSTILE, toml="max_batch_size = 8")
    gateway = start_gateway(repository, top, "--allow-python")
    try:
        yield gateway.wait_ready()
    finally:
        gateway.close()


def test_without_permission_nothing_runs_and_nothing_is_built(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    add(tmp_path / "repository", "m", "print('I ran')", "iniconfig==2.1.0")
    started = gateway(tmp_path / "repository", MODELPORT_HOME=str(tmp_path / "home")).wait_ready()
    entry = started.index()["m", "1"]
    assert (entry["state"], "start it with --allow-python" in entry["reason"]) == ("UNAVAILABLE", True)
    assert not list((tmp_path / "home").glob("environments/*"))
    assert "I ran" not in "\n".join(started.log)


def test_tritonclient_calls_both_forms(running: Gateway) -> None:
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    script = Path(__file__).parent / "python_models_script.py"
    assert "all of it worked" in run_client(python, script, running.http, running.grpc)
    assert running.wait_for(r"worker\.own: the factor is 3")
    assert running.wait_for(r"worker\.triton: INFO: mode is plain")


def test_a_models_refusal_reaches_the_client_and_its_failure_does_not(running: Gateway) -> None:
    body = {"inputs": {"x": [[400.0] * 4], "text": [["a"]]}}
    reply = running.post("/predict/own", body)
    assert (reply.status, reply.json()["error"]) == (400, "400 is too much for this model")
    mark = len(running.log)
    reply = running.post("/predict/own", {"inputs": {"x": [[500.0] * 4], "text": [["a"]]}})
    assert reply.status == 500
    assert "secret" not in reply.json()["error"]
    running.wait_for(r"worker\.own: RuntimeError: the model's own secret", mark)


def test_a_model_has_the_packages_that_it_names(running: Gateway) -> None:
    assert running.infer("packed", {"x": [[1.0] * 4]}) == {"output": [[9.0] * 4]}
    assert 'modelport_environment_state{runtime="python-' in running.get("/metrics").body.decode()


def test_packages_that_do_not_exist_make_it_unavailable(running: Gateway) -> None:
    entry = running.index()["impossible", "1"]
    assert entry["state"] == "UNAVAILABLE"
    assert "iniconfig==0.0.0.1" in entry["reason"]


@pytest.mark.skipif(
    not landlock.version() or not seccomp.supports_reports(), reason="this kernel has no Landlock or no seccomp"
)
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (11, r"tried to connect to 127\.0\.0\.1:9 "),
        (12, "tried to start another process"),
        (13, "tried to use a file that is not its own: .*/etc/passwd'"),
        (14, "tried to use a file that is not its own: .*model.py'"),
    ],
)
def test_an_attempt_to_leave_the_sandbox_is_stopped_and_named(running: Gateway, number: int, words: str) -> None:
    mark = len(running.log)
    assert running.post("/predict/hostile", row(number)).status == 500
    running.wait_for(rf"worker\.hostile: the sandbox stopped the model: it {words}", mark)
    assert running.infer("hostile", {"x": [[1.0] * 4]}) == {"output": [[2.0] * 4]}
