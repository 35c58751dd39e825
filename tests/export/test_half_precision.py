"""Programs of PyTorch that compute in FP16 or BF16: exports compute in FP32, and small mistakes in them are noticed."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gateway.environments.environment import Environment
from gateway.export import cases
from gateway.export.jobs import Jobs, RouteFailed
from gateway.export.original import Original
from gateway.export.report import Report
from gateway.export.source import find, open_source
from gateway.export.verdict import Limits
from gateway.export.verification import verify
from gateway.export.workspace import Workspace
from runtimes.contract import numpy_dtype
from tests.support.export_runs import environments, run_export

MAKE = Path(__file__).parent / "make_programs.py"
DATATYPES = {"bfloat16": "BF16", "float16": "FP16"}
FILES = {"onnx": "model.onnx", "executorch": "model.pte"}
EXPORTS = [("bfloat16", "onnx"), ("bfloat16", "executorch"), ("float16", "onnx")]


@pytest.fixture(scope="module")
def repository(runtime_python: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    command = [runtime_python("torchscript"), "-I", "-W", "ignore", MAKE, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def exports(
    repository: Path, runtime_environment: Callable[[str], Environment], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], tuple[Path, Report]]:
    """Model and target → the model file of an export, and its report."""
    runtime_environment("onnx")
    folder, found = tmp_path_factory.mktemp("exports"), {}
    for model, target in EXPORTS:
        out = folder / model / target
        report = run_export(model, target, out, repository=repository)
        found[model, target] = (out / FILES[target], report)
    return found


def original(repository: Path, model: str, scratch: Path) -> tuple[Original, Workspace]:
    """Run the model on generated inputs."""
    known, jobs = environments(), Jobs(scratch, print)
    workspace = Workspace(known, jobs)

    async def run() -> Original:
        source = await open_source(find(model, repository, "", known.known), "", {}, workspace, {})
        found = Original(source, jobs)
        await found.answer(cases.generated(source.signature.inputs, source.shapes, source.batches), 1e-4)
        return found

    return asyncio.run(run()), workspace


def problem(target: str, artifact: Path, of: tuple[Original, Workspace]) -> str:
    """Return why the artifact is not an export of this model; "" if it is one."""
    try:
        asyncio.run(verify(target, artifact, of[0], Limits(1e-4), of[1]))
    except RouteFailed as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def right(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Original, Workspace]]:
    return {model: original(repository, model, tmp_path_factory.mktemp(model)) for model in DATATYPES}


@pytest.mark.parametrize(("model", "target"), EXPORTS)
def test_a_model_that_computes_in_16_bits_is_exported_in_fp32(
    exports: dict[tuple[str, str], tuple[Path, Report]], model: str, target: str
) -> None:
    report, datatype = exports[model, target][1], DATATYPES[model]
    datatypes = {name: datatype for name, datatype, *_ in (*report.inputs, *report.outputs)}
    assert [datatypes[name] for name in ("x", "y", "scores", "logits", "best", "zeros")] == [
        datatype, datatype, datatype, datatype, "INT64", datatype,
    ]  # fmt: skip
    assert f"it computes in FP32 what the original computes in {datatype}" in report.notes
    assert any(
        each.startswith("output 'logits' is compared with the original computed in FP32") for each in report.notes
    )


def without_bias(model: onnx.ModelProto) -> None:
    (last,) = (each for each in model.graph.node if each.op_type == "Gemm" and each.output[0] in softmax_inputs(model))
    replaced(model, last.input[2], np.zeros_like)


def softmax_inputs(model: onnx.ModelProto) -> list[str]:
    return [each.input[0] for each in model.graph.node if each.op_type == "Softmax"]


def replaced(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    (tensor,) = (each for each in model.graph.initializer if each.name == name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(values).astype(values.dtype), name))


def with_swapped_inputs(model: onnx.ModelProto) -> None:
    other = {"x": "y", "y": "x"}
    for node in model.graph.node:
        node.input[:] = [other.get(each, each) for each in node.input]


def with_a_leak(model: onnx.ModelProto) -> None:
    (relu,) = (each for each in model.graph.node if each.op_type == "Relu")
    relu.op_type = "LeakyRelu"
    relu.attribute.append(onnx.helper.make_attribute("alpha", 0.01))


def with_weights_rounded_twice(model: onnx.ModelProto) -> None:
    """To FP16 or BF16, and then to FP8."""
    for tensor in list(model.graph.initializer):
        if len(tensor.dims) == 2:
            replaced(model, tensor.name, lambda values: values.astype(numpy_dtype("FP8_E4M3FN")).astype("f4"))


@pytest.mark.parametrize("model", DATATYPES)
@pytest.mark.parametrize("mistake", [without_bias, with_swapped_inputs, with_a_leak, with_weights_rounded_twice])
def test_mistakes_in_an_onnx_file_are_noticed(
    exports: dict[tuple[str, str], tuple[Path, Report]],
    right: Any,
    tmp_path: Path,
    model: str,
    mistake: Callable[[onnx.ModelProto], None],
) -> None:
    wrong = onnx.load(exports[model, "onnx"][0])
    mistake(wrong)
    onnx.save(wrong, tmp_path / "model.onnx")
    assert "of its largest value" in problem("onnx", tmp_path / "model.onnx", right[model])


def test_a_bias_that_the_original_lacks_is_noticed_in_executorch(
    exports: dict[tuple[str, str], tuple[Path, Report]], repository: Path, tmp_path: Path
) -> None:
    artifact = exports["bfloat16", "executorch"][0]
    assert "of its largest value" in problem("executorch", artifact, original(repository, "unbiased", tmp_path))
