"""Sequences in real workers: a state in each of five frameworks, and silero's voice activity as 200 streams."""

import http.client
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.gateway_process import Gateway, start_gateway

FILES = {
    "onnx": "model.onnx",
    "torchscript": "model.pt",
    "savedmodel": "model.savedmodel",
    "mxnet": "model-symbol.json",
    "tflite": "model.tflite",
}
DECLARED = """
[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 2]
[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1, 2]
"""
SEQUENCE = """
[sequence]
strategy = "oldest"
idle_timeout_s = 60
[[sequence.controls]]
kind = "START"
input = "start"
datatype = "{flag}"
[[sequence.states]]
input = "total"
output = "new_total"
datatype = "FP32"
shape = [2]
"""
VAD = """
[sequence]
strategy = "oldest"
idle_timeout_s = 60
[[sequence.states]]
input = "state"
output = "stateN"
datatype = "FP32"
shape = [2, 128]
dim = 1
"""
STREAMS, STEPS = 200, 3


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, runtime_python: Callable[[str], Path], zoo: Path
) -> Iterator[Gateway]:
    repository = tmp_path_factory.mktemp("sequences")
    script = Path(__file__).parent / "make_sequence_models.py"
    for framework, file in FILES.items():
        folder = repository / framework
        (folder / "1").mkdir(parents=True)
        python = sys.executable if framework == "onnx" else runtime_python(framework)
        subprocess.run([python, script, framework, folder / "1" / file], check=True, capture_output=True)
        declared = DECLARED if framework in ("torchscript", "mxnet") else ""
        flag = "INT32" if framework in ("onnx", "savedmodel") else "FP32"
        (folder / "model.toml").write_text("max_batch_size = 8\n" + declared + SEQUENCE.format(flag=flag))
    runtime_python("onnx")
    folder = repository / "vad"
    (folder / "1").mkdir(parents=True)
    shutil.copy(zoo / "onnx/silero_vad_16k_op15/silero_vad_16k_op15.onnx", folder / "1" / "model.onnx")
    (folder / "model.toml").write_text(VAD)
    gateway = start_gateway(repository, tmp_path_factory.mktemp("scratch"))
    yield gateway.wait_ready()
    gateway.close()


class Client:
    """`ask` returns the first number of the first output, or the error."""

    def __init__(self, gateway: Gateway) -> None:
        self._connection = http.client.HTTPConnection(gateway.http)
        self.close = self._connection.close

    def ask(self, model: str, sequence: int | str, x: np.ndarray, flags: str = "") -> float | str:
        name = "input" if model == "vad" else "x"
        described = {"name": name, "datatype": "FP32", "shape": x.shape, "parameters": {"binary_data_size": x.nbytes}}
        inputs = [described]
        if model == "vad":
            inputs.append({"name": "sr", "datatype": "INT64", "shape": [], "data": [16000]})
        parameters = {
            "sequence_id": sequence, "sequence_start": "start" in flags, "sequence_end": "end" in flags,
        }  # fmt: skip
        head = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
        length = {"Inference-Header-Content-Length": str(len(head))}
        self._connection.request("POST", f"/v2/models/{model}/infer", head + x.tobytes(), length)
        answer = json.loads(self._connection.getresponse().read())
        if "error" in answer:
            return str(answer["error"])
        (output,) = answer["outputs"]  # the state is hidden
        return float(output["data"][0])


@pytest.fixture
def client(served: Gateway) -> Iterator[Client]:
    client = Client(served)
    yield client
    client.close()


@pytest.mark.parametrize("model", FILES)
def test_a_state_in_every_framework(model: str, served: Gateway, client: Client) -> None:
    metadata = served.get(f"/v2/models/{model}").json()
    assert [[tensor["name"] for tensor in metadata[side]] for side in ("inputs", "outputs")] == [["x"], ["y"]]

    def ask(sequence: int | str, x: float, flags: str = "") -> float | str:
        return client.ask(model, sequence, np.full((1, 2), x, np.float32), flags)

    assert [ask(1, 1, "start"), ask("1", 100, "start"), ask(1, 2), ask("1", 1, "end")] == [22, 220, 26, 222]
    assert "must specify the START flag" in str(ask("1", 1))
    assert [ask(1, 5, "start"), ask(1, 1, "end")] == [30, 32]


def test_the_command_line_sends_a_sequence(served: Gateway, tmp_path: Path) -> None:
    np.save(tmp_path / "ones.npy", np.ones((1, 2), np.float32))

    def predict(value: str, *flags: str) -> str:
        line = [
            sys.executable,
            "-m",
            "gateway",
            "predict",
            "onnx",
            "--url",
            f"http://{served.http}",
            "--input",
            value,
            *flags,
        ]
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
        return done.stdout + done.stderr

    assert "[[22., 22.]]" in predict("[[1, 1]]", "--sequence-id", "7", "--sequence-start")
    assert "[[220., 220.]]" in predict("[[100, 100]]", "--sequence-id", '"7"', "--sequence-start")
    assert "[[24., 24.]]" in predict(f"@{tmp_path}/ones.npy", "--sequence-id", "7", "--sequence-end")
    assert "must specify the START flag" in predict("[[1, 1]]", "--sequence-id", "7")
    assert "must specify a non-zero or non-empty correlation ID" in predict("[[1, 1]]")


def test_interleaved_streams_are_equal_to_each_alone(client: Client, zoo: Path) -> None:
    folder = zoo / "onnx/silero_vad_16k_op15"
    sound = np.random.default_rng(0).normal(0, 0.3, (STREAMS, STEPS, 1, 576)).astype(np.float32)
    with np.load(folder / "inputs.npz") as inputs, np.load(folder / "expected.npz") as expected:
        sound[0, 0], first = inputs["input"], expected["output"].item()

    def flags(step: int) -> str:
        return {0: "start", STEPS - 1: "end"}.get(step, "")

    together = [
        [client.ask("vad", 1 + stream, sound[stream, step], flags(step)) for stream in range(STREAMS)]
        for step in range(STEPS)
    ]
    alone = [
        [client.ask("vad", f"alone {stream}", sound[stream, step], flags(step)) for step in range(STEPS)]
        for stream in range(STREAMS)
    ]
    assert together[0][0] == pytest.approx(first, abs=1e-5)
    np.testing.assert_allclose(np.transpose(together), alone, rtol=0, atol=1e-5)
    assert len(set(alone[1])) == STEPS  # the state matters
