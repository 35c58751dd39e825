"""tfjs-backend-wasm 4.22.0 computes fused products with a transposed second matrix wrongly: no export has one."""

import asyncio
import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.environments.environment import Environment
from gateway.export import cases
from gateway.export.cases import Case
from gateway.export.jobs import CasesJob, Jobs, bare_load
from gateway.export.report import Report
from runtimes.converters.tf.unfuse import is_wrong, one_dimensional, unfuse

_RANDOM = np.random.default_rng(3)
_WEIGHTS = _RANDOM.normal(size=(10, 32)).astype(np.float32)
_BIAS = _RANDOM.normal(size=10).astype(np.float32)
_FLOAT = {"type": "DT_FLOAT"}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _tensor(name: str, last: int) -> dict[str, Any]:
    return {"name": f"{name}:0", "dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": "-1"}, {"size": str(last)}]}}


def model(activation: str, transposed: bool = True, bias_shape: tuple[int, ...] = (10,)) -> dict[str, Any]:
    """Return a model as the converter writes it, for example max(0, x · weightsᵀ + bias) in one node."""
    fused = ["BiasAdd", *([activation] if activation else [])]
    node = {
        "name": "y",
        "op": "_FusedMatMul",
        "input": ["x", "weights", "bias"],
        "attr": {
            "T": _FLOAT,
            "transpose_a": {"b": False},
            "transpose_b": {"b": transposed},
            "num_args": {"i": "1"},
            "epsilon": {"f": 0.0},
            "fused_ops": {"list": {"s": [_encoded(each) for each in fused]}},
        },
    }
    constant = {"op": "Const", "input": [], "attr": {"dtype": _FLOAT, "value": {"tensor": {"dtype": "DT_FLOAT"}}}}
    constants = [{"name": name, **constant} for name in ("weights", "bias")]
    entry = {"name": "x", "op": "Placeholder", "input": [], "attr": {"dtype": _FLOAT}}
    shapes = {"weights": _WEIGHTS.shape if transposed else _WEIGHTS.T.shape, "bias": bias_shape}
    weights = [{"name": name, "shape": list(shape), "dtype": "float32"} for name, shape in shapes.items()]
    return {
        "format": "graph-model",
        "modelTopology": {"node": [entry, *constants, node], "library": {}, "versions": {"producer": 1}},
        "weightsManifest": [{"paths": ["weights.bin"], "weights": weights}],
        "signature": {"inputs": {"x": _tensor("x", 32)}, "outputs": {"y": _tensor("y", 10)}},
    }


def computed(made: dict[str, Any], x: np.ndarray, backend: str, web: Environment, folder: Path) -> np.ndarray:
    for each in ("model", "results"):
        (folder / each).mkdir(parents=True)
    (folder / "model" / "model.json").write_text(json.dumps(made))
    transposed = made["weightsManifest"][0]["weights"][0]["shape"] == list(_WEIGHTS.shape)
    weights = _WEIGHTS if transposed else np.ascontiguousarray(_WEIGHTS.T)
    (folder / "model" / "weights.bin").write_bytes(weights.tobytes() + _BIAS.tobytes())
    file = cases.write(Case("x", {"x": x}), folder)
    load = bare_load(web.runtime, folder / "model", 1, backend=backend)
    job = CasesJob(load, files=[file], results=folder / "results").to_json()
    (answer,) = asyncio.run(Jobs(folder, print).run(web, job))["answers"]
    assert answer == {}
    return cases.read(folder / "results" / file.name)["y"]


@pytest.mark.parametrize("activation", ["", "Relu", "Sigmoid"])
def test_the_fused_product_is_wrong_and_the_unfused_right(
    activation: str, export_environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    """If the first half fails, the backend has been fixed, and runtimes/converters/tf/unfuse.py is no longer needed."""
    web = export_environment("export-web")
    x = _RANDOM.normal(size=(4, 32)).astype(np.float32)
    after = {"": lambda a: a, "Relu": lambda a: np.maximum(a, 0), "Sigmoid": lambda a: 1 / (1 + np.exp(-a))}[activation]
    right = after(x @ _WEIGHTS.T + _BIAS)
    raw = model(activation)
    assert np.abs(computed(raw, x, "wasm", web, tmp_path / "raw") - right).max() > 0.1
    unfused = copy.deepcopy(raw)
    unfuse(unfused)
    for backend in ("wasm", "cpu"):
        np.testing.assert_allclose(computed(unfused, x, backend, web, tmp_path / backend), right, atol=1e-5)


def test_a_bias_of_two_dimensions_is_refused_and_added_apart(
    export_environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    """TensorFlow's optimizer mistakes any sum of two products, as in recurrent layers, for a product and its bias."""
    web = export_environment("export-web")
    x = _RANDOM.normal(size=(4, 32)).astype(np.float32)
    raw = model("Relu", transposed=False, bias_shape=(1, 10))
    with pytest.raises(AssertionError, match="rank-1 bias"):
        computed(raw, x, "wasm", web, tmp_path / "raw")
    unfused = copy.deepcopy(raw)
    unfuse(unfused)
    for backend in ("wasm", "cpu"):
        made = computed(unfused, x, backend, web, tmp_path / backend)
        np.testing.assert_allclose(made, np.maximum(x @ _WEIGHTS.T + _BIAS, 0), atol=1e-5)


def test_no_export_has_one(exported: Callable[..., tuple[Path, Report]]) -> None:
    folder, report = exported("digits_onnx", "tfjs")
    written = json.loads((folder / "model.json").read_text())
    vectors = one_dimensional(written)
    assert [node for node in written["modelTopology"]["node"] if is_wrong(node, vectors)] == []
    assert {run.runner: run.problem for run in report.runs} == {"TensorFlow.js cpu": "", "TensorFlow.js wasm": ""}
