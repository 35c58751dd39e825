"""Real models from other projects: each gives the same answer as its framework, in every protocol."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_copy
from tests.support.protocols import PROTOCOLS, Ask

TOLERANCE = 1e-4
NOT_ARTIFACTS = {"case.json", "inputs.npz", "expected.npz"}


# The zoo uses the tensors' names; these are the names in the file's signature.
BASIC_PITCH = {
    "serving_default_input_2:0": "input_2",
    "StatefulPartitionedCall:0": "contour",
    "StatefulPartitionedCall:1": "note",
    "StatefulPartitionedCall:2": "onset",
}


class Case(NamedTuple):
    """One folder of the zoo.

    toml    the settings from case.json that the artifact does not contain
    served  the zoo's names of inputs and outputs → the served names, if they differ
    """

    runtime: str
    folder: str
    toml: str = ""
    served: Mapping[str, str] = MappingProxyType({})

    @property
    def model(self) -> str:
        return f"{self.runtime}-{self.folder}"


CASES = [
    Case("onnx", "basic-pitch-nmp"),
    Case("onnx", "logreg_iris"),
    Case("onnx", "mnist-cntk-2.5.1-ortexamples"),
    Case("onnx", "sigmoid"),
    Case("onnx", "silero_vad_16k_op15"),
    Case("savedmodel", "basic-pitch-nmp"),
    Case("savedmodel", "saved_model_half_plus_three"),
    Case("savedmodel", "saved_model_half_plus_two_2_versions"),
    Case("savedmodel", "saved_model_half_plus_two_2_versions_v124"),
    Case("savedmodel", "saved_model_half_plus_two_cpu"),
    Case("mxnet", "go_test"),
    Case("mxnet", "sagemaker-linreg"),
    Case("mxnet", "sagemaker-mnist-mlp"),
    Case("tflite", "basic-pitch-nmp", served=BASIC_PITCH),
    Case("tflite", "saved_model_half_plus_two_tflite_with_sigdef"),
]


def copy_of(zoo: Path, case: Case, repository: Path, name: str = "") -> None:
    """Copy version folders of the zoo (00000123) unchanged, and other artifacts into version 1."""
    source = zoo / case.runtime / case.folder
    artifacts = [entry for entry in sorted(source.iterdir()) if entry.name not in NOT_ARTIFACTS]
    if all(entry.is_dir() and entry.name.isdigit() for entry in artifacts):
        for entry in artifacts:
            shutil.copytree(entry, repository / (name or case.model) / entry.name)
    elif all(entry.is_dir() for entry in artifacts):
        add_copy(repository, name or case.model, sorted(artifacts[0].iterdir()), toml=case.toml)
    else:
        add_copy(repository, name or case.model, artifacts, toml=case.toml)


@pytest.fixture(scope="module")
def serving(
    zoo: Path, runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Gateway]]:
    """Return a runtime's gateway, which serves all of its cases and is started once."""
    started: dict[str, Gateway] = {}

    def serve(runtime: str) -> Gateway:
        if runtime not in started:
            runtime_environment(runtime)
            scratch = tmp_path_factory.mktemp(runtime)
            for case in CASES:
                if case.runtime == runtime:
                    copy_of(zoo, case, scratch / "repository")
            started[runtime] = start_gateway(scratch / "repository", scratch).wait_ready()
        return started[runtime]

    yield serve
    for each in started.values():
        each.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.model)
def test_answers_equal_the_framework(zoo: Path, serving: Callable[[str], Gateway], case: Case, protocol: str) -> None:
    folder = zoo / case.runtime / case.folder
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    given = {case.served.get(name, name): array for name, array in inputs.items()}
    outputs = PROTOCOLS[protocol](serving(case.runtime), case.model, given)
    named = [name for name in expected.files if not name.startswith("probabilities_")]  # logreg_iris: no tensor
    wanted = {case.served.get(name, name): expected[name] for name in named}
    if protocol == "predict":
        outputs.pop("probabilities", None)  # a sequence of maps, which test_onnx_values.py compares
    assert sorted(outputs) == sorted(wanted)
    for name, array in wanted.items():
        assert outputs[name].shape == array.shape
        np.testing.assert_allclose(outputs[name], array, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_real_cntk_model_answers(zoo: Path, served_mnist_conv: Gateway, protocol: str) -> None:
    """Three images, one after the other and as one batch."""
    folder = zoo / "cntk" / "mnist_conv"
    images, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    names = ["sample_4", "sample_9", "rand"]
    for rows in (*([name] for name in names), names):
        given = {"input": np.stack([images[name] for name in rows])}
        (answer,) = PROTOCOLS[protocol](served_mnist_conv, "mnist_conv", given).values()
        np.testing.assert_allclose(answer, np.stack([expected[name] for name in rows]), rtol=0, atol=1e-5)
    assert [expected[name].argmax() for name in names[:2]] == [4, 9]


@pytest.fixture(scope="module")
def served_mnist_conv(
    zoo: Path, runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    runtime_environment("cntk")
    scratch = tmp_path_factory.mktemp("mnist_conv")
    add_copy(scratch / "repository", "mnist_conv", [zoo / "cntk" / "mnist_conv" / "mnist_conv.cmf"])
    running = start_gateway(scratch / "repository", scratch).wait_ready()
    yield running
    running.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_stateful_silero_answers_in_its_own_order(
    zoo: Path, gateway: Callable[..., Gateway], runtime_environment: Callable[[str], Any], tmp_path: Path, protocol: str
) -> None:
    runtime_environment("torchscript")
    case = Case("torchscript", "silero_vad", "stateful = true")
    copy_of(zoo, case, tmp_path / "repository")
    folder = zoo / "torchscript" / "silero_vad"
    inputs = {"x": np.load(folder / "inputs.npz")["x"], "sr": np.array(16000, np.int64)}
    expected = np.load(folder / "expected.npz")
    running = gateway(tmp_path / "repository").wait_ready()
    ask: Ask = PROTOCOLS[protocol]
    for name in ("out_first_call", "out_second_call"):
        (output,) = ask(running, case.model, inputs).values()
        np.testing.assert_allclose(output, expected[name], rtol=0, atol=TOLERANCE)


def test_both_versions_are_served(
    zoo: Path, gateway: Callable[..., Gateway], runtime_environment: Callable[[str], Any], tmp_path: Path
) -> None:
    runtime_environment("savedmodel")
    for folder in ("saved_model_half_plus_two_2_versions", "saved_model_half_plus_two_2_versions_v124"):
        copy_of(zoo, Case("savedmodel", folder), tmp_path / "repository", "half_plus_two")
    (tmp_path / "repository/half_plus_two/model.toml").write_text("[version_policy]\nall = true\n")
    running = gateway(tmp_path / "repository").wait_ready()
    assert running.get("/v2/models/half_plus_two").json()["versions"] == ["123", "124"]
    for version in ("123", "124", "00000123"):
        assert running.infer("half_plus_two", {"x": [[1.0], [2.0]]}, version) == {"y": [[2.5], [3.0]]}


def test_signatures_can_be_chosen(serving: Callable[[str], Gateway]) -> None:
    reply = serving("savedmodel").post(
        "/predict/savedmodel-saved_model_half_plus_two_cpu",
        {"inputs": {"inputs": [[1.0], [2.0], [5.0]]}, "signature": "regress_x2_to_y3"},
    )
    assert reply.json()["outputs"] == {"outputs": [[3.5], [4.0], [5.5]]}


def test_an_output_that_is_no_tensor_is_in_the_json_of_predict_only(serving: Callable[[str], Gateway]) -> None:
    running = serving("onnx")
    body = {"inputs": {"float_input": [[5.1, 3.5], [4.9, 3.0], [6.2, 3.4]]}}
    outputs = running.post("/predict/onnx-logreg_iris", body).json()["outputs"]
    assert list(outputs) == ["label", "probabilities"]
    for label, probabilities in zip(outputs["label"], outputs["probabilities"], strict=True):
        assert max(probabilities, key=probabilities.__getitem__) == str(label)
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)
    tensor = {"name": "float_input", "datatype": "FP32", "shape": [3, 2], "data": body["inputs"]["float_input"]}
    v2 = "/v2/models/onnx-logreg_iris/infer"
    assert [each["name"] for each in running.post(v2, {"inputs": [tensor]}).json()["outputs"]] == ["label"]
    reply = running.post(v2, {"inputs": [tensor], "outputs": [{"name": "probabilities"}]})
    assert reply.status == 400
    assert "'probabilities' cannot be served" in reply.json()["error"]


def test_the_negative_ones_are_refused_with_a_sentence(
    zoo: Path, gateway: Callable[..., Gateway], runtime_environment: Callable[[str], Any], tmp_path: Path
) -> None:
    runtime_environment("onnx")
    runtime_environment("tflite")
    repository = tmp_path / "repository"
    add_copy(repository, "rejected", [zoo / "negative" / "onnx-cntk2.4-rejected-by-ort.onnx"])
    add_copy(repository, "tflite", [zoo / "negative" / "tflite-needs-ParseExampleV2.tflite"])
    add_copy(repository, "good", [zoo / "onnx" / "sigmoid" / "sigmoid.onnx"])
    running = gateway(repository).wait_ready()
    index = running.index()
    assert index["rejected", "1"]["state"] == index["tflite", "1"]["state"] == "UNAVAILABLE"
    assert "needs the custom operator 'ParseExampleV2'" in index["tflite", "1"]["reason"]
    for name in ("rejected", "tflite"):
        reply = running.post(f"/predict/{name}", {"inputs": [[1.0]]})
        assert reply.status == 503
        assert str(tmp_path) not in reply.json()["error"]
    assert index["good", "1"]["state"] == "READY"


def test_one_network_in_three_frameworks_agrees(serving: Callable[[str], Gateway], zoo: Path) -> None:
    """basic-pitch: each output of ONNX and LiteRT equals the output of SavedModel that case.json pairs it with."""
    samples = np.load(zoo / "savedmodel/basic-pitch-nmp/inputs.npz")["input_2"]
    ask = PROTOCOLS["v2-binary"]
    saved = ask(serving("savedmodel"), "savedmodel-basic-pitch-nmp", {"input_2": samples})
    onnx = ask(serving("onnx"), "onnx-basic-pitch-nmp", {"serving_default_input_2:0": samples})
    lite = ask(serving("tflite"), "tflite-basic-pitch-nmp", {"input_2": samples})
    pairs = {"onset": "2", "note": "1", "contour": "0"}
    for name, number in pairs.items():
        np.testing.assert_allclose(saved[name], onnx[f"StatefulPartitionedCall:{number}"], rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(saved[name], lite[name], rtol=0, atol=TOLERANCE)


def test_silero_agrees_in_torchscript_and_onnx(zoo: Path, serving: Callable[[str], Gateway]) -> None:
    """The ONNX model expects the 64 samples of context and the state as inputs; the TorchScript model stores them."""
    samples = np.load(zoo / "torchscript/silero_vad/inputs.npz")["x"]
    inputs = {
        "input": np.concatenate([np.zeros((1, 64), np.float32), samples], axis=1),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }
    output = PROTOCOLS["grpc"](serving("onnx"), "onnx-silero_vad_16k_op15", inputs)["output"]
    expected = np.load(zoo / "torchscript/silero_vad/expected.npz")["out_first_call"]
    np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCE)
