"""A pipeline of real models is exported step by step, and compared as a whole."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.export.errors import CannotExport
from gateway.export.export import ExportRequest
from gateway.export.pipeline import export_pipeline
from gateway.export.pipeline_report import PipelineReport
from tests.support.export_runs import answer, environments

RANDOM = np.random.default_rng(7)
WEIGHTS = RANDOM.normal(size=(6, 3)).astype(np.float32)
STEPS = """
[[steps]]
model = "scorer"
inputs = { features = "scaled" }
outputs = { scores = "result" }

[[steps]]
model = "scale"
inputs = { x = "pixels" }
outputs = { y = "half" }

[[steps]]
model = "scale"
inputs = { x = "half" }
outputs = { y = "scaled" }
"""


def add(repository: Path, name: str, ends: tuple[str, str], sizes: tuple[int, int], nodes: Any, **weights: Any) -> None:
    x, y = (
        helper.make_tensor_value_info(end, TensorProto.FLOAT, ["N", size])
        for end, size in zip(ends, sizes, strict=True)
    )
    given = [numpy_helper.from_array(np.asarray(value, np.float32), key) for key, value in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], given)
    path = repository / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipelines")
    add(path, "scale", ("x", "y"), (6, 6), [helper.make_node("Mul", ["x", "half"], ["y"])], half=0.5)
    scored = [helper.make_node("MatMul", ["features", "w"], ["m"]), helper.make_node("Tanh", ["m"], ["scores"])]
    add(path, "scorer", ("features", "scores"), (6, 3), scored, w=WEIGHTS)
    (path / "whole" / "1").mkdir(parents=True)
    (path / "whole" / "model.toml").write_text(STEPS)
    return path


def run(repository: Path, target: str, out: Path, **options: Any) -> PipelineReport:
    request = ExportRequest("whole", target, out, repository, **options)
    return asyncio.run(export_pipeline(request, environments(), lambda line: None))


def test_each_model_once_and_the_whole_compared(repository: Path, tmp_path: Path) -> None:
    report = run(repository, "tflite", tmp_path / "out")
    out = tmp_path / "out"
    assert {each.name for each in out.iterdir()} == {
        "scale", "scorer", "pipeline.json", "export.json", "example.json", "README.md",
    }  # fmt: skip
    graph = json.loads((out / "pipeline.json").read_text())
    assert [step["folder"] for step in graph["steps"]] == ["scale", "scale", "scorer"]
    assert graph["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 6]}]
    assert [each["name"] for each in graph["outputs"]] == ["result"]
    (compared,) = report.runs
    assert (compared.runner, compared.cases >= 15) == ("LiteRT", True)
    assert compared.differences[0].relative <= 1e-4
    # A program that knows only pipeline.json gets what the models compute.
    tensors = {"pixels": RANDOM.normal(size=(2, 6)).astype(np.float32)}
    for step in graph["steps"]:
        inputs = {name: tensors[tensor] for name, tensor in step["inputs"].items()}
        scratch = tmp_path / f"run {len(tensors)}"
        scratch.mkdir()
        outputs = answer("tflite", out / step["folder"], inputs, scratch)
        tensors.update({tensor: outputs[name] for name, tensor in step["outputs"].items()})
    np.testing.assert_allclose(tensors["result"], np.tanh(tensors["pixels"] / 4 @ WEIGHTS), atol=1e-5)
    example = json.loads((out / "example.json").read_text())
    pixels, result = (
        np.reshape(each["data"], each["shape"]) for each in (example["inputs"]["pixels"], example["outputs"]["result"])
    )
    np.testing.assert_allclose(result, np.tanh(pixels / 4 @ WEIGHTS), atol=1e-5)
    text = (out / "README.md").read_text()
    assert "| 3 | [scorer](scorer/README.md) | `features` ← `scaled` | `scores` → `result` |" in text


def test_real_inputs_reach_every_step(repository: Path, tmp_path: Path) -> None:
    """--check is for the pipeline. Each model is compared on what it gets when the originals run on these inputs."""
    np.savez(tmp_path / "real.npz", **{f"pixels.{n}": RANDOM.normal(size=(3, 6)).astype(np.float32) for n in range(2)})
    report = run(repository, "onnx", tmp_path / "out", check=tmp_path / "real.npz")
    assert (report.cases, report.origin) == (2, "real.npz")
    scale, scorer = (json.loads((tmp_path / "out" / name / "export.json").read_text()) for name in ("scale", "scorer"))
    assert (scale["cases"], scorer["cases"]) == (4, 2)  # two steps run the first
    with pytest.raises(CannotExport, match="exists already"):
        run(repository, "onnx", tmp_path / "out")
