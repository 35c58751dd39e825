"""Inputs without rows, and outputs that are not tensors, of ONNX models in every protocol.

The expected values are those of ONNX Runtime outside of the gateway.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest

import modelport
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.protocols import PROTOCOLS, ask_predict

DECLARED = "".join(
    f"[[inputs]]\nname = '{name}'\noptional = {given}\n" for name, given in (("x", "false"), ("w", "true"))
)
TOML = "queue_delay_ms = 20\n"  # so that requests meet


class Served(NamedTuple):
    """expected: for each model, the inputs and outputs of some requests."""

    gateway: Gateway
    repository: Path
    expected: dict[str, list[dict[str, dict[str, Any]]]]

    def answer(self, model: str, number: int = 0) -> dict[str, Any]:
        return self.expected[model][number]["outputs"]

    def inputs(self, model: str, number: int = 0) -> dict[str, np.ndarray]:
        return {name: np.array(each, np.float32) for name, each in self.expected[model][number]["inputs"].items()}


@pytest.fixture(scope="module")
def served(runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    runtime_environment("onnx")
    python, repository = runtime_environment("cntk_onnx").python, tmp_path_factory.mktemp("values")
    script = Path(__file__).parent / "make_onnx_values.py"
    made = subprocess.run([python, "-I", script, repository], check=True, capture_output=True, text=True)
    for folder in repository.iterdir():
        (folder / "model.toml").write_text(TOML + (DECLARED if folder.name == "declared" else ""))
    gateway = start_gateway(repository, tmp_path_factory.mktemp("scratch")).wait_ready()
    yield Served(gateway, repository, json.loads(made.stdout))
    gateway.close()


def is_close(found: Any, expected: Any) -> bool:
    """Whether two values of JSON are the same, up to the precision of FP32."""
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(is_close(found[key], each) for key, each in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(is_close, found, expected))
    if isinstance(expected, float):
        return bool(np.float32(found) == np.float32(expected))
    return bool(found == expected)


@pytest.mark.parametrize("model", ["classifier", "words", "nested", "only_sequence"])
def test_sequences_maps_and_optional_values_are_json(served: Served, model: str) -> None:
    for _ in range(4):  # what other requests of the same form leave in caches changes nothing
        reply = served.gateway.post(f"/predict/{model}", {"inputs": served.expected[model][0]["inputs"]})
        assert reply.status == 200, reply
        assert is_close(reply.json()["outputs"], served.answer(model))


def test_one_of_them_can_be_asked_for(served: Served) -> None:
    body = {"inputs": served.expected["classifier"][0]["inputs"], "outputs": ["probabilities"]}
    reply = served.gateway.post("/predict/classifier", body).json()["outputs"]
    assert is_close(reply, {"probabilities": served.answer("classifier")["probabilities"]})


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS.keys() - {"predict"}))
def test_other_protocols_have_the_tensors(served: Served, protocol: str) -> None:
    found = PROTOCOLS[protocol](served.gateway, "classifier", served.inputs("classifier"))
    assert {name: array.tolist() for name, array in found.items()} == {"label": served.answer("classifier")["label"]}


def test_other_dialects_have_the_tensors(served: Served) -> None:
    inputs, labels = {"inputs": served.expected["classifier"][0]["inputs"]}, served.answer("classifier")["label"]
    assert served.gateway.post("/v1/models/classifier:predict", inputs).json() == {"outputs": labels}
    assert served.gateway.post("/predictions/classifier", inputs).json() == labels


def command(served: Served, model: str, *arguments: str) -> list[str]:
    """Run `modelport predict`, and return its output, line by line."""
    line = [Path(sys.executable).with_name("modelport"), "predict", model, *arguments]
    url = f"http://{served.gateway.http}"
    return subprocess.run([*line, "--url", url], check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("form", ["json", "npy"])
def test_the_command_prints_them(served: Served, form: str, tmp_path: Path) -> None:
    x = json.dumps(served.expected["classifier"][0]["inputs"]["x"])
    if form == "npy":
        np.save(tmp_path / "x.npy", served.inputs("classifier")["x"])
        x = f"@{tmp_path}/x.npy"
    label, labels, name, values = command(served, "classifier", "--input", x)
    assert (label, labels) == ("label  INT64 [2]", "[0, 2]")
    assert name == "probabilities"
    assert is_close(json.loads(values), served.answer("classifier")["probabilities"])
    assert command(served, "classifier", "--output", "probabilities", "--input", x) == [name, values]


def test_the_command_gives_inputs_without_rows(served: Served, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.array([-1, 0.5]))  # FP64
    shown = command(served, "overridable", "--input", "x=[[2, 4]]", "--input", f"w=@{tmp_path}/w.npy")
    assert shown == ["y  FP32 [1, 2]", "[[-2.,  2.]]"]
    assert command(served, "overridable", "--input", "[[2, 4]]") == ["y  FP32 [1, 2]", "[[ 4., 12.]]"]


def test_the_configuration_lists_them(served: Served) -> None:
    config = served.gateway.get("/v2/models/classifier/config").json()
    assert json.loads(config["parameters"]["json_outputs"]["string_value"]) == ["probabilities"]
    assert "json_outputs" not in served.gateway.get("/v2/models/overridable/config").json()["parameters"]


def test_other_protocols_refuse_them_by_name(served: Served) -> None:
    x = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    body = {"inputs": [x], "outputs": [{"name": "probabilities"}]}
    refused = (
        "output '{}' cannot be served: it is {}, which no tensor can hold; POST /predict has it in an answer in JSON"
    )
    reply = served.gateway.post("/v2/models/classifier/infer", body)
    error = refused.format("probabilities", "seq(map(int64,tensor(float)))")
    assert (reply.status, reply.json()) == (400, {"error": error})
    reply = served.gateway.post("/v2/models/only_sequence/infer", {"inputs": [x]})
    error = refused.format("columns", "seq(tensor(float))")
    assert (reply.status, reply.json()) == (400, {"error": error})
    with pytest.raises(grpc.RpcError) as caught:
        PROTOCOLS["grpc"](served.gateway, "only_sequence", served.inputs("only_sequence"))
    assert caught.value.details() == error  # type: ignore[attr-defined]
    accept = {"Accept": "application/x-npz"}
    reply = served.gateway.post("/predict/only_sequence", {"inputs": [[1, 2]]}, accept)
    assert (reply.status, reply.json()) == (400, {"error": error})


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("model", ["overridable", "declared", "optional"])
def test_inputs_without_rows_may_be_given(served: Served, model: str, protocol: str) -> None:
    for number in range(2):
        found = PROTOCOLS[protocol](served.gateway, model, served.inputs(model, number))["y"]
        assert np.array_equal(found, np.array(served.answer(model, number)["y"], np.float32))


def test_other_dialects_may_give_them(served: Served) -> None:
    body, expected = {"inputs": served.expected["overridable"][1]["inputs"]}, served.answer("overridable", 1)["y"]
    assert is_close(served.gateway.post("/v1/models/overridable:predict", body).json(), {"outputs": expected})
    assert is_close(served.gateway.post("/predictions/overridable", body).json(), expected)
    target = {"X-Amzn-SageMaker-Target-Model": "overridable"}
    assert is_close(served.gateway.post("/invocations", body, target).json(), {"predictions": {"y": expected}})


def test_a_program_may_give_them(served: Served) -> None:
    x, w = np.array([[1, 2], [3, 4], [5, 6]]), [-1, 0.5]  # of other datatypes than the model's
    with modelport.load(served.repository / "overridable", progress=False) as model:
        assert np.array_equal(model.infer(x)["y"], x * [2, 3])
        assert np.array_equal(model.infer(x=x, w=w)["y"], x * w)
        for rows in (1, 2):
            slices = model.batches({"x": x, "w": w}, rows=rows)
            assert np.array_equal(np.concatenate([each["y"] for each in slices]), x * w)


def test_a_request_that_gives_one_runs_alone(served: Served) -> None:
    def ask(client: int) -> bool:
        x = np.full((1, 2), client, np.float32)
        if client % 3 == 0:
            return bool(np.array_equal(ask_predict(served.gateway, "overridable", {"x": x})["y"], x * [2, 3]))
        w = np.array([client, -client], np.float32)
        return bool(np.array_equal(ask_predict(served.gateway, "overridable", {"x": x, "w": w})["y"], x * w))

    with ThreadPoolExecutor(12) as clients:
        assert all(clients.map(ask, range(48)))


def test_their_shapes_are_checked_and_described(served: Served) -> None:
    x = served.expected["overridable"][0]["inputs"]["x"]
    reply = served.gateway.post("/predict/overridable", {"inputs": {"x": x, "w": [1]}})
    assert (reply.status, reply.json()) == (400, {"error": "input 'w' has shape [1], expected [2]"})
    config = served.gateway.get("/v2/models/overridable/config").json()
    assert [(each["name"], each["dims"], each["optional"]) for each in config["input"]] == [
        ("x", [2], False),
        ("w", [2], True),
    ]
    metadata = served.gateway.get("/v2/models/overridable").json()
    assert [each["name"] for each in metadata["inputs"]] == ["x"]


def test_an_input_that_is_a_sequence_is_refused_by_name(served: Served) -> None:
    entry = served.gateway.index()["sequence_input", "1"]
    reason = "input 'parts' cannot be served: it is seq(tensor(float)), which the protocol lacks"
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", reason)


def test_a_classifier_of_another_project(
    gateway: Callable[..., Gateway], runtime_environment: Callable[[str], Any], zoo: Path, tmp_path: Path
) -> None:
    runtime_environment("onnx")
    folder = tmp_path / "repository" / "iris" / "1"
    folder.mkdir(parents=True)
    source = zoo / "onnx" / "logreg_iris"
    (folder / "model.onnx").write_bytes((source / "logreg_iris.onnx").read_bytes())
    given, expected = np.load(source / "inputs.npz"), np.load(source / "expected.npz")
    outputs = (
        gateway(tmp_path / "repository").wait_ready().infer("iris", {"float_input": given["float_input"].tolist()})
    )
    assert outputs["label"] == expected["label"].tolist()
    keys, values = (expected[f"probabilities_{each}"].tolist() for each in ("keys", "values"))
    assert is_close(outputs["probabilities"], [dict(zip(map(str, keys), each, strict=True)) for each in values])
