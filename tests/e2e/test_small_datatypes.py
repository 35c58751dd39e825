"""BF16, FP8, INT4 and UINT4 through a gateway: every protocol, ONNX Runtime, commands, caches and pipelines.

What the frameworks compute with them is in the cases `small_types` of tests/contract.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest

import modelport
from gateway.generated import open_inference_pb2 as pb
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.tensors import widened
from tests.support import ROOT
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_fake
from tests.support.protocols import PROTOCOLS, grpc_call

NAMES = {"b": "BF16", "e": "FP8_E4M3FN", "f": "FP8_E5M2", "i": "INT4", "u": "UINT4"}
PIPELINE = """
[[steps]]
model = "b"
inputs = { b = "x" }
outputs = { b2 = "middle" }

[[steps]]
model = "wide"
inputs = { x = "middle" }
outputs = { y = "y" }
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, runtime_environment: Callable[[str], Any]) -> Path:
    runtime_environment("onnx")
    folder = tmp_path_factory.mktemp("small") / "repository"
    made = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, ROOT / "tests/contract/make/onnx.py", made], check=True)
    (folder / "onnx" / "1").mkdir(parents=True)
    (made / "small_types" / "model.onnx").rename(folder / "onnx" / "1" / "model.onnx")
    (folder / "onnx" / "model.toml").write_text("max_batch_size = 8\nqueue_delay_ms = 20\n")
    (made / "small_types" / "case.json").rename(folder.parent / "case.json")
    for model, names in {"b": "b", "u": "u"}.items():
        specs = [{"name": name, "datatype": NAMES[name], "shape": [-1, 3]} for name in names]
        outputs = [{**each, "name": each["name"] + "2"} for each in specs]
        add_fake(folder, model, toml="response_cache = true\n", inputs=specs, outputs=outputs)
    add_fake(folder, "wide", inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 3]}])
    (folder / "mismatch" / "1").mkdir(parents=True)
    (folder / "mismatch" / "model.toml").write_text(PIPELINE)
    return folder


@pytest.fixture(scope="module")
def gateway_of_all(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = start_gateway(repository, tmp_path_factory.mktemp("scratch"), "--shared-memory").wait_ready()
    yield running
    running.close()


@pytest.fixture(scope="module")
def case(repository: Path) -> dict[str, dict[str, np.ndarray]]:
    """The inputs and outputs of the ONNX model."""
    raw = json.loads((repository.parent / "case.json").read_text())
    return {
        key: {name: np.array(rows).astype(numpy_dtype(NAMES[name[0]])) for name, rows in raw[key].items()}
        for key in ("values", "expected_values")
    }


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(widened(found[name]), widened(array), name)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_has_them(gateway_of_all: Gateway, case: Any, protocol: str) -> None:
    found = PROTOCOLS[protocol](gateway_of_all, "onnx", case["values"])
    same(found, case["expected_values"])
    if protocol not in ("predict", "torchserve"):  # whose JSON has no datatypes
        assert {name: array.dtype for name, array in found.items()} == {
            name: array.dtype for name, array in case["expected_values"].items()
        }


def test_other_dialects_have_them(gateway_of_all: Gateway, case: Any) -> None:
    def check(outputs: dict[str, Any]) -> None:
        arrays = {name: np.array(rows).astype(numpy_dtype(NAMES[name[0]])) for name, rows in outputs.items()}
        same(arrays, case["expected_values"])

    inputs = {name: array.tolist() for name, array in case["values"].items()}
    rows = [{name: inputs[name][row] for name in inputs} for row in range(2)]
    check(gateway_of_all.post("/v1/models/onnx:predict", {"inputs": inputs}).json()["outputs"])
    answer = gateway_of_all.post("/v1/models/onnx:predict", {"instances": rows}).json()["predictions"]
    check({name: [row[name] for row in answer] for name in answer[0]})
    check(gateway_of_all.post("/predictions/onnx", {"inputs": inputs}).json())


def test_requests_share_batches(gateway_of_all: Gateway) -> None:
    config = gateway_of_all.get("/v2/models/onnx/config").json()
    assert config["parameters"]["batching"]["string_value"] == "batching up to 8 rows"
    types = {each["name"]: each["data_type"] for each in config["input"]}
    assert types == dict.fromkeys("efiu", "TYPE_INVALID") | {"b": "TYPE_BF16"}
    metadata = gateway_of_all.get("/v2/models/onnx").json()
    assert {each["name"]: each["datatype"] for each in metadata["inputs"]} == NAMES


def test_numbers_beyond_them_are_refused_by_name(gateway_of_all: Gateway) -> None:
    for model, number, says in (
        ("b", 1e39, "holds a number too large for BF16"),
        ("u", 16, "holds 16, out of the range of UINT4: 0 to 15"),
        ("u", -1, "holds -1, out of the range of UINT4: 0 to 15"),
        ("u", 1.5, "send integers only"),
    ):
        reply = gateway_of_all.post(f"/predict/{model}", {"inputs": [[0, 0, number]]})
        assert reply.status == 400
        assert says in reply.json()["error"]


def test_formats_that_lack_them_say_so(gateway_of_all: Gateway) -> None:
    body = {"inputs": [[1, 2, 3]]}
    reply = gateway_of_all.post("/predict/b", body, {"Accept": "application/x-npz"})
    says = "output 'b2' is BF16, which npy cannot represent; ask for JSON"
    assert (reply.status, reply.json()) == (400, {"error": says})
    request = pb.ModelInferRequest(model_name="b")
    request.inputs.add(name="b", datatype="BF16", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    with pytest.raises(grpc.RpcError) as caught:
        grpc_call(gateway_of_all, "ModelInfer", request, pb.ModelInferResponse)
    says = "input 'b' has datatype BF16, which has no contents; use raw_input_contents"
    assert caught.value.details() == says  # type: ignore[attr-defined]


def test_a_pipeline_does_not_convert_them(gateway_of_all: Gateway) -> None:
    reply = gateway_of_all.post("/predict/mismatch", {"inputs": [[1, 2, 3]]})
    assert reply.status >= 400
    assert "BF16" in reply.json()["error"]
    assert "FP32" in reply.json()["error"]


def test_equal_requests_are_answered_from_the_cache(gateway_of_all: Gateway) -> None:
    def hits() -> list[str]:
        lines = gateway_of_all.get("/metrics").body.decode().splitlines()
        return [line for line in lines if line.startswith("modelport_cache_hits_total")]

    for model in "bu":
        before = hits()
        for _ in range(2):
            reply = gateway_of_all.post(f"/predict/{model}", {"inputs": [[5, 0, 7]]})
            assert reply.json()["outputs"] == {model + "2": [[10, 0, 14]]}
        assert len(set(hits()) - set(before)) == 1


def test_tritonclient_has_bfloat16(gateway_of_all: Gateway) -> None:
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    script = Path(__file__).parent / "bfloat16_script.py"
    assert "all of it worked" in run_client(python, script, gateway_of_all.http, gateway_of_all.grpc)


def command(*arguments: str | Path) -> tuple[int, str]:
    words, environment = [sys.executable, "-m", "gateway", *map(str, arguments)], {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout + done.stderr


def test_commands(gateway_of_all: Gateway, repository: Path, tmp_path: Path) -> None:
    url = ["--url", f"http://{gateway_of_all.http}"]
    assert command("predict", "b", "--input", "[[1, 0.1, 3]]", *url) == (0, "b2  BF16 [1, 3]\n[[2, 0.200195, 6]]\n")
    np.save(tmp_path / "x.npy", np.array([[1.0, 0.1, 3.0]]))
    code, shown = command("predict", "b", "--input", f"@{tmp_path}/x.npy", *url)
    assert (code, shown) == (0, "b2  BF16 [1, 3]\n[[2, 0.200195, 6]]\n")
    code, shown = command("compare", "onnx", "onnx/1", *url)
    assert code == 0, shown
    code, shown = command("export", "onnx", "--repository", repository, "--to", "tflite", "--out", tmp_path / "out")
    assert code != 0
    assert "input 'b' is BF16, which tflite lacks: export the model to onnx or executorch" in shown
    code, shown = command("export", "onnx", "--repository", repository, "--to", "onnx", "--out", tmp_path / "out")
    assert code == 0, shown
    assert "note: output 'b2' is BF16: numbers that differ only by being rounded" in shown


def test_tables_and_programs(repository: Path, tmp_path: Path, case: Any) -> None:
    with modelport.load(str(repository / "onnx" / "1" / "model.onnx")) as model:
        same(model.infer(**case["values"]), case["expected_values"])
        wide = {name: widened(array) for name, array in case["values"].items()}
        found = model.infer(**wide)
        same(found, case["expected_values"])
        assert {name: array.dtype for name, array in found.items()} == {
            name: array.dtype for name, array in case["expected_values"].items()
        }
    np.savez(tmp_path / "rows.npz", **wide)
    source, target = tmp_path / "rows.npz", tmp_path / "scored.parquet"
    code, shown = command("score", repository / "onnx", source, "--output", target)
    assert code == 0, shown
    table = pq.read_table(target)
    for name, array in case["expected_values"].items():
        assert table[name].to_pylist() == widened(array).tolist(), name
    assert str(table.schema.field("b2").type).startswith("fixed_size_list<element: float")


def test_all_have_names() -> None:
    assert set(NAMES.values()) == {each.name for each in DATATYPES.values() if each.typestr is None}
