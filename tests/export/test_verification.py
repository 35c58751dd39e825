"""Verification of real files: exports that are wrong on ordinary inputs are refused, correct ones are not."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.export import cases
from gateway.export import export as exporting
from gateway.export.errors import CannotExport
from gateway.export.jobs import Jobs, RouteFailed
from gateway.export.original import Original, Outcome
from gateway.export.routes import routes
from gateway.export.source import Source
from gateway.export.verdict import Limits
from gateway.export.verification import verify
from gateway.export.workspace import Workspace
from gateway.repository.model_config import ModelConfig
from runtimes.contract import Signature, TensorSpec
from tests.support.export_runs import environments, run_export

RANDOM = np.random.default_rng(5)


def saved(
    path: Path, nodes: list[Any], kind: int, x: list[Any], y: list[Any], constants: Mapping[str, np.ndarray]
) -> Path:
    value = [helper.make_tensor_value_info(name, kind, ["N", *size]) for name, size in (("x", x), ("y", y))]
    given = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], given)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def problem(artifact: Path, datatype: str, right: Any, tmp_path: Path) -> str:
    """Return why the artifact is not an export of this numpy function, on generated inputs, or "" if it is one."""
    signature = Signature((TensorSpec("x", datatype, (-1, 4)),), (TensorSpec("y", datatype, (-1, 4)),))
    source = Source(
        ModelConfig("model", "1", ""), "onnx", None, {}, "default", signature, {"x": (1, 4)}, True,  # type: ignore[arg-type]
    )  # fmt: skip
    jobs = Jobs(tmp_path, print)

    class Known(Original):
        async def _run(self, chosen: Any, *_: Any, **__: Any) -> list[Outcome]:
            return [Outcome(case, {"y": right(case.inputs["x"])}) for case in chosen]

    original = Known(source, jobs)
    asyncio.run(original.answer(cases.generated(signature.inputs, source.shapes, True), 1e-4))
    try:
        asyncio.run(verify("onnx", artifact, original, Limits(1e-4), Workspace(environments(), jobs)))
    except RouteFailed as error:
        return str(error)
    return ""


def test_a_division_that_truncates_is_none_that_floors(tmp_path: Path) -> None:
    """-1 // 4 is -1, but the file's Div returns 0. For integers that are not negative, both are the same."""
    nodes = [helper.make_node("Div", ["x", "four"], ["y"])]
    artifact = saved(tmp_path / "m.onnx", nodes, TensorProto.INT64, [4], [4], {"four": np.array(4)})
    assert "output 'y' differs" in problem(artifact, "INT64", lambda x: x // 4, tmp_path)
    (tmp_path / "again").mkdir()
    assert problem(artifact, "INT64", lambda x: np.trunc(x / 4).astype(np.int64), tmp_path / "again") == ""


def test_a_logarithm_of_a_sigmoid_ends_where_the_sigmoid_is_zero(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Log", ["s"], ["y"])]
    artifact = saved(tmp_path / "m.onnx", nodes, TensorProto.FLOAT, [4], [4], {})
    sentence = problem(artifact, "FP32", lambda x: -np.logaddexp(np.float32(0), -x), tmp_path)
    assert "output 'y' cannot be right" in sentence
    assert "infinities" in sentence


def test_pictures_that_are_normalised(tmp_path: Path) -> None:
    """Normalizing an image of a single color gives noise, which must neither pass nor refuse an export.

    The size that the target fixes is in the first line of the report.
    """
    weights = {"w": RANDOM.normal(size=(8, 3, 3, 3)), "scale": np.ones(8), "bias": RANDOM.normal(size=8)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("InstanceNormalization", ["c", "scale", "bias"], ["y"]),
    ]
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    artifact = tmp_path / "repository" / "normalised" / "1" / "model.onnx"
    saved(artifact, nodes, TensorProto.FLOAT, [3, "H", "W"], [8, "H", "W"], constants)
    report = run_export(
        "normalised", "tflite", tmp_path / "out", shapes={"x": (1, 3, 16, 16)}, repository=artifact.parents[2]
    )
    assert report.text().splitlines()[0].endswith("float32, x fixed at 1x3x16x16 (by --shape)")
    (noise,) = (note for note in report.notes if "is not compared on" in note)
    assert "hundreds" in noise
    assert all(name not in noise for name in ("unit_", "normal_", "wide_", "halves_", "tenths_"))


def test_a_pad_before_a_pooling_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a window of negative numbers the zeros of a Pad win, but a pooling's own padding never does.

    onnxsim, which fixes sizes, merges one into the other.
    """
    with_one = [route for route in routes("onnx", "tflite") if "batch of one" in route.about]
    monkeypatch.setattr(exporting, "routes", lambda *_: with_one[:1])
    constants = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "w": RANDOM.normal(size=(4, 3, 3, 3)).astype("f4"),
        "b": np.full(4, -9, "f4"),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("Pad", ["c", "pads"], ["padded"]),
        helper.make_node("MaxPool", ["padded"], ["m"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("GlobalMaxPool", ["m"], ["g"]),
        helper.make_node("Flatten", ["g"], ["y"]),
    ]
    path = tmp_path / "pooled" / "1" / "model.onnx"
    artifact = saved(path, nodes, TensorProto.FLOAT, [3, 12, 12], [4], constants)
    report = run_export("pooled", "tflite", tmp_path / "out", repository=artifact.parents[2])
    assert any("the batch size is fixed at 1" in note for note in report.notes)


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
def test_a_division_in_float32_is_wrong_for_large_integers(
    kind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnx2tf divides integers in FP32, which is exact up to 2^24."""
    monkeypatch.setattr(exporting, "routes", lambda *_: routes("onnx", "tflite")[:1])
    path = tmp_path / "divided" / "1" / "model.onnx"
    three = np.array(3, helper.tensor_dtype_to_np_dtype(kind))
    saved(path, [helper.make_node("Div", ["x", "three"], ["y"])], kind, [4], [4], {"three": three})
    wrong = "output 'y' is wrong for large integers: it differs from about 2^24 on at the latest"
    if kind == TensorProto.INT64:
        with pytest.raises(CannotExport, match=re.escape(wrong)) as caught:
            run_export("divided", "tflite", tmp_path / "out", repository=tmp_path)
        assert str(caught.value).count("--allow-loss") == 1
    else:
        assert wrong in run_export("divided", "tflite", tmp_path / "out", repository=tmp_path, allow_loss=True).notes
