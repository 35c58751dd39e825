"""OpenVINO serves its own files, and those of other frameworks whose configuration names it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from runtimes.contract import numpy_dtype
from tests.support import ROOT
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_copy
from tests.support.protocols import PROTOCOLS

ONNX = ROOT / "model_repo/digits_onnx/1"
SAVEDMODEL = ROOT / "model_repo/digits_savedmodel/1"
PADDLE = ROOT / "tests/e2e/paddle"
NAMED = 'runtime = "openvino"\n'
# Model → key of what OpenVINO itself has computed.
SERVED = {"onnx": "onnx", "onnx_by_backend": "onnx", "savedmodel": "savedmodel", "ir": "ir"}


class Served(NamedTuple):
    gateway: Gateway
    expected: dict[str, np.ndarray]


def make_lite(folder: Path, python: Path) -> Path:
    """Make a .tflite file with a signature, in LiteRT's environment: y = x + x."""
    made = f"sys.path.insert(0, {str(ROOT / 'tests/contract/make')!r}); import tflite"
    written = f"tflite.write({str(folder)!r}, 'lite', tflite.adder('serving_default'), {{}})"
    subprocess.run([python, "-I", "-c", f"import sys; {made}; {written}"], check=True, timeout=240)
    return folder / "lite" / "model.tflite"


@pytest.fixture(scope="module")
def served(runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    scratch = tmp_path_factory.mktemp("openvino")
    (onnx,) = ONNX.glob("*.onnx")
    script = [
        str(ROOT / "tests/e2e/make_openvino.py"),
        str(scratch),
        str(onnx),
        str(next(SAVEDMODEL.rglob("saved_model.pb")).parent),
    ]
    python = runtime_environment("openvino").python
    done = subprocess.run([python, "-I", *script], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    repository = scratch / "repository"
    add_copy(repository, "original", [onnx])
    add_copy(repository, "original_savedmodel", list(SAVEDMODEL.iterdir()))
    add_copy(repository, "onnx", [onnx], toml=NAMED)
    add_copy(repository, "onnx_by_backend", [onnx])
    (repository / "onnx_by_backend/config.pbtxt").write_text('backend: "openvino"\nmax_batch_size: 8\n')
    add_copy(repository, "savedmodel", list(SAVEDMODEL.iterdir()), toml=NAMED)
    add_copy(repository, "ir", [scratch / "model.xml", scratch / "model.bin"])
    add_copy(repository, "bf16", [onnx], toml=NAMED + '[parameters]\nprecision = "bf16"\n')
    add_copy(repository, "state", [scratch / "state.xml", scratch / "state.bin"])
    add_copy(repository, "places", [scratch / "places.xml", scratch / "places.bin"])
    add_copy(repository, "columns", [scratch / "columns.xml", scratch / "columns.bin"])
    make_frozen = [runtime_environment("savedmodel").python, "-I", ROOT / "tests/e2e/make_frozen.py", scratch]
    subprocess.run(make_frozen, check=True, timeout=240, capture_output=True)
    add_copy(repository, "frozen", [scratch / "frozen_graph.pb"], toml=NAMED)
    add_copy(repository, "paddle", sorted(PADDLE.iterdir()))
    (scratch / "model.json").write_text('{"base_code":{"magic":"pir","trainable":true,"version":3}}')
    add_copy(repository, "pir", [scratch / "model.json", PADDLE / "model.pdiparams"])
    add_copy(repository, "narrow", [scratch / "narrow.xml", scratch / "narrow.bin"])
    lite = make_lite(scratch, runtime_environment("tflite").python)
    add_copy(repository, "original_lite", [lite])
    add_copy(repository, "lite", [lite], toml=NAMED)
    add_copy(repository, "npu", [scratch / "model.xml", scratch / "model.bin"], toml='[parameters]\ndevice = "NPU"\n')
    (scratch / "other.xml").write_text("<project/>")
    add_copy(repository, "other", [scratch / "other.xml"])
    with np.load(scratch / "expected.npz") as file:
        expected = {**file, "frozen": np.load(scratch / "frozen.npy")}
    running = start_gateway(repository, scratch).wait_ready()
    yield Served(running, expected)
    running.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("model", SERVED)
def test_answers_are_those_of_openvino_and_of_the_original(served: Served, model: str, protocol: str) -> None:
    image = served.expected["image"]
    (scores,) = PROTOCOLS[protocol](served.gateway, model, {"image": image}).values()
    np.testing.assert_allclose(scores, served.expected[SERVED[model]], rtol=1e-5, atol=1e-6)
    other = "original_savedmodel" if model == "savedmodel" else "original"
    (original,) = PROTOCOLS["grpc"](served.gateway, other, {"image": image}).values()
    # The IR's weights are in FP16.
    np.testing.assert_allclose(scores, original, rtol=0, atol=1e-2 if model == "ir" else 1e-5)


def test_tensorflow_serving_and_torchserve(served: Served) -> None:
    image = served.expected["image"]
    reply = served.gateway.post("/v1/models/ir:predict", {"instances": image.tolist()})
    np.testing.assert_allclose(reply.json()["predictions"], served.expected["ir"], rtol=1e-4, atol=1e-5)
    answer = served.gateway.post("/predictions/ir", {"inputs": {"image": image.tolist()}})
    assert answer.status == 200, answer


def test_a_frozen_graph_has_the_names_of_its_operators(served: Served) -> None:
    (answer,) = PROTOCOLS["grpc"](served.gateway, "frozen", {"x": np.ones((2, 4), np.float32)}).items()
    assert answer[0] == "probabilities"
    np.testing.assert_allclose(answer[1], served.expected["frozen"], rtol=1e-5)


def test_what_paddlepaddle_saved(served: Served) -> None:
    """PaddlePaddle 3.2.2 has made the model, and computed the values: make_paddle.py."""
    (answer,) = served.gateway.infer("paddle", {"x": [[1, 1, 1, 1]]}).values()
    np.testing.assert_allclose(answer, [[-0.39190534, -0.08028632, 0.14614129]], rtol=1e-5)


def test_metadata_names_the_format_and_what_runs_it(served: Served) -> None:
    metadata = {
        name: served.gateway.get(f"/v2/models/{name}").json()["platform"] for name in ("original", "onnx", "ir")
    }
    assert metadata == {"original": "onnxruntime_onnx", "onnx": "openvino_onnx", "ir": "openvino_ir"}
    assert served.gateway.get("/v2/models/onnx/config").json()["backend"] == "openvino"


def test_it_computes_in_fp32_unless_asked_otherwise(served: Served) -> None:
    """On CPUs with BF16, OpenVINO's default is BF16."""
    image = served.expected["image"]
    (scores,) = PROTOCOLS["grpc"](served.gateway, "bf16", {"image": image}).values()
    np.testing.assert_allclose(scores, served.expected["bf16"], rtol=0, atol=1e-2)


def test_no_request_sees_the_state_of_another(served: Served) -> None:
    for _ in range(3):
        assert served.gateway.infer("state", {"x": [[1, 2]]}) == {"y": [[1, 2]]}
    served.gateway.wait_for("state version 1 is READY, batching is off: the model keeps state")


@pytest.mark.parametrize("protocol", ["v2-json", "v2-binary", "grpc"])
def test_datatypes_that_numpy_lacks(served: Served, protocol: str) -> None:
    """The outputs are one more than the inputs, of which two of four bits share a byte in OpenVINO."""
    names = {"bf16": "BF16", "f8e4m3": "FP8_E4M3FN", "i4": "INT4", "u4": "UINT4"}
    numbers = np.array([[1, 6, 3 if protocol == "grpc" else 2], [0, 5, 4], [1, 2, 3]])
    inputs = {name: numbers.astype(numpy_dtype(datatype)) for name, datatype in names.items()}
    inputs["i4"] = (numbers - 8).astype(numpy_dtype("INT4"))
    answers = PROTOCOLS[protocol](served.gateway, "narrow", inputs).values()
    for given, answer in zip(inputs.values(), answers, strict=True):
        assert answer.dtype == given.dtype
        np.testing.assert_array_equal(answer.astype(np.float32), given.astype(np.float32) + 1)


def test_coordinates_outside_of_a_table_are_refused(served: Served) -> None:
    """OpenVINO would answer with what lies behind the table in memory."""
    for place, row in ((3, [6, 7]), (-4, [0, 1])):
        assert list(served.gateway.infer("places", {"place": [[place]]}).values()) == [[row]]
    for place in (4, -5, 1_000_000):
        reply = served.gateway.post("/predict/places", {"inputs": [[place]]})
        assert (reply.status, reply.json()["error"]) == (400, "an index is outside of the tensor that it selects from")


def test_no_answer_after_a_failed_run_is_that_to_another_request(served: Served) -> None:
    """OpenVINO would return an output in the shape of the failed run."""

    def ask(*rows: list[int]) -> Any:
        reply = served.gateway.post("/predict/columns", {"inputs": list(rows)})
        return next(iter(reply.json()["outputs"].values())) if reply.status == 200 else reply.status

    for _ in range(2):
        assert ask([3, 2], [1, 0]) == [[6, 5], [2, 1]]
        assert ask([0, 4]) == 400
        assert ask([3, 2], [1, 0]) == [[6, 5], [2, 1]]


def test_what_cannot_be_served_says_why(served: Served) -> None:
    reasons = {name: entry["reason"] for (name, _), entry in served.gateway.index().items()}
    assert "OpenVINO reads PaddlePaddle's .pdmodel, and not its .json" in reasons["pir"]
    assert "OpenVINO has no device 'NPU' here: it has 'CPU'" in reasons["npu"]
    assert reasons["other"] == "'other.xml' is not a file of openvino_ir: its first bytes are not those of one"


@pytest.mark.parametrize("other", ["onnx", "lite"])
def test_compare_shows_both_runtimes_side_by_side(served: Served, other: str) -> None:
    original = {"onnx": "original", "lite": "original_lite"}[other]
    command = [sys.executable, "-m", "gateway", "compare", "--url", f"http://{served.gateway.http}"]
    done = subprocess.run([*command, original, other], capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "they match within" in done.stdout


def test_ir_has_no_export(served: Served, tmp_path: Path) -> None:
    artifact = tmp_path / "model.xml"
    artifact.write_text("<net >")
    command = [
        sys.executable,
        "-m",
        "gateway",
        "export",
        str(artifact),
        "--to",
        "tflite",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=ROOT)
    assert done.returncode != 0
    assert "models of openvino_ir cannot be exported" in done.stdout + done.stderr, json.dumps(done.stderr)
