"""Large integers: which inputs have them, and what a difference for them means."""

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.export import large
from gateway.export.cases import Case
from gateway.export.comparison import OutputDifference, within
from gateway.export.errors import CannotExport
from gateway.export.export import refusal
from gateway.export.jobs import Jobs
from gateway.export.original import Original, Outcome
from gateway.export.report import Attempt, Run
from gateway.export.source import Source
from gateway.export.verdict import Limits, advice, mismatch
from gateway.export.verification import _Comparison
from gateway.repository.model_config import ModelConfig
from runtimes.contract import InputRange, Signature, TensorSpec, numpy_dtype
from runtimes.id_ranges import MAX_IDS, Limit

X = TensorSpec("x", "INT64", (-1, 3))


def magnitudes(*specs: TensorSpec, limited: tuple[str, ...] = ()) -> list[int]:
    return [case.magnitude for case in large.generated(specs, {s.name: s.shape or () for s in specs}, False, limited)]


def test_each_datatype_gets_what_it_can_hold() -> None:
    assert magnitudes(X._replace(shape=(2, 3))) == [24, 31, 33, 40]
    assert magnitudes(TensorSpec("x", "INT32", (4,))) == [24, 31]
    assert (
        magnitudes(TensorSpec("x", "INT16", (4,)), TensorSpec("y", "FP32", (4,)), TensorSpec("s", "BOOL", (4,))) == []
    )


def test_counts_masks_and_limited_integers_stay_small() -> None:
    assert magnitudes(TensorSpec("count", "INT64", ()), TensorSpec("attention_mask", "INT64", (4,))) == []
    ids, time = TensorSpec("ids", "INT64", (4,)), TensorSpec("time", "INT64", (4,))
    for case in large.generated([ids, time], {"ids": (4,), "time": (4,)}, False, ["ids"]):
        assert np.all((case.inputs["ids"] >= 0) & (case.inputs["ids"] < 8))
        assert case.inputs["time"].min() < -(1 << 24)
        assert case.inputs["time"].max() > 1 << 24


@pytest.mark.parametrize("datatype", ["INT32", "INT64", "UINT64"])
def test_neighbors_in_fp32_are_found_without_overflow(datatype: str) -> None:
    for case in large.generated([TensorSpec("x", datatype, (-1, 50))], {"x": (1, 50)}, True, ()):
        x = case.inputs["x"]
        near = large.rounded(case).inputs["x"]
        assert np.any(near != x)
        assert np.array_equal(near.astype(np.float32), x.astype(np.float32)), "the same to a model of floats"
        for move in large.moves(case):
            far = move.inputs["x"]
            assert np.all(far.astype(np.float32) != x.astype(np.float32))
            assert np.all((far > 0) == (x > 0))


def test_values_that_the_datatype_of_an_output_cannot_hold_are_not_compared() -> None:
    right, cut = np.array([1, -1, 1 << 33]), np.array([1, 1, 0])
    ours, theirs = large.without_misfits({"y": right}, {"y": cut}, {"y": np.dtype("i4")})
    assert (ours["y"].tolist(), theirs["y"].tolist()) == ([1, -1, 0], [1, 1, 0])
    ours, _ = large.without_misfits({"y": right}, {"y": cut}, {"y": np.dtype("i8")})
    assert ours["y"].tolist() == right.tolist()


def test_a_difference_for_large_integers_is_a_loss() -> None:
    found = OutputDifference("y", large=24)
    assert not within(found, 1e-4)
    assert within(found, 1e-4, allow_loss=True)


@pytest.mark.parametrize(
    ("difference", "tolerance", "option"),
    [
        (OutputDifference("y", loss="[:, 4] is constant, but varies in the original"), 2e-1, "--allow-loss"),
        (OutputDifference("y", relative=3.0, coarse=0.1), 2e-1, "--allow-loss"),
        (OutputDifference("y", large=24), 1e-4, "--check DATA.npz, or use --allow-loss"),
        (OutputDifference("y", relative=0.5, coarse=0.5), 2e-1, ""),
        (OutputDifference("y", relative=0.5, coarse=1e-5), 1e-4, ""),
    ],
)
def test_advice_comes_once_before_the_reasons(difference: OutputDifference, tolerance: float, option: str) -> None:
    run, limits = Run("LiteRT", (difference,), None), Limits(tolerance)
    attempts = [Attempt(route, "", mismatch(run, limits), compared=True) for route in ("first", "second")]
    sentence = refusal("model", "tflite", attempts, advice(run, limits))
    assert sentence.count("--allow-loss") == bool(option)
    assert option in sentence.partition("Every route failed")[0]
    assert "output 'y'" in sentence


class Fake(Original):
    """An original that computes a numpy function. ranges and limits are those of its integers."""

    def __init__(self, tmp_path: Path, function: Any, ranges: dict[str, InputRange], limits: dict[str, Limit]) -> None:
        source = Source(
            ModelConfig("model", "1", ""), "pt2", None, {}, "default",  # type: ignore[arg-type]
            Signature((X,), (TensorSpec("y", "INT64", (-1, 3)),)), {"x": (1, 3)}, True, ranges=ranges,
        )  # fmt: skip
        super().__init__(source, Jobs(tmp_path, print))
        self.asked: list[Case] = []
        self._function, self._limits = function, limits

    async def _run(self, cases: Any, timed: Any = None, large: bool = False, in_fp32: bool = False) -> list[Outcome]:
        assert large, "large integers run in a process of limited time and memory"
        self.asked += cases
        if in_fp32:
            return [Outcome(case, {"y": waves(case.inputs["x"], np.float32)}) for case in cases]
        return [Outcome(case, self._function(case.inputs["x"])) for case in cases]


def answered(tmp_path: Path, function: Any, **known: Any) -> Fake:
    original = Fake(tmp_path, function, known.get("ranges", {}), known.get("limits", {}))
    asyncio.run(original.answer_large())
    return original


def test_integers_whose_range_is_known_are_never_large(tmp_path: Path) -> None:
    assert answered(tmp_path, lambda x: {"y": x}, ranges={"x": InputRange(0, 999, True)}).asked == []
    assert answered(tmp_path, lambda x: {"y": x}, limits={"x": 1000}).asked == []
    assert answered(tmp_path, lambda x: {"y": x}, limits={"x": MAX_IDS}).large


def test_outputs_of_floats_are_known_from_those_of_integers(tmp_path: Path) -> None:
    original = answered(tmp_path, lambda x: {"rest": x % 1000, "wave": np.sin(x.astype(np.float32))})
    assert [each.case.magnitude for each in original.large] == [24, 31, 33, 40]
    assert {each.exact for each in original.large} == {frozenset({"rest"})}


def test_an_original_that_does_not_end_is_noted(tmp_path: Path) -> None:
    def never(x: np.ndarray) -> None:
        raise CannotExport("model 'model' does not run: it ended with code 1")

    original = answered(tmp_path, never)
    assert original.large == []
    assert "integers beyond 32767 are not compared" in original.note


def waves(x: np.ndarray, dtype: Any, shift: float = 0.0) -> np.ndarray:
    """Compute in this datatype, and return FP32."""
    return np.sin((x / 1e12).astype(dtype).astype(np.float32) + np.float32(shift)).astype(dtype).astype(np.float32)


@pytest.mark.parametrize(("shift", "differs"), [(0.0, {}), (0.01, {"y": 24})])
def test_an_original_in_bf16_is_compared_in_fp32(tmp_path: Path, shift: float, differs: dict[str, int]) -> None:
    original = answered(tmp_path, lambda x: {"y": waves(x, numpy_dtype("BF16"))})
    signature = Signature((X,), (TensorSpec("y", "FP32", (-1, 3)),))
    original.source = replace(original.source, signature=signature)
    exported = [(each, {"y": waves(each.case.inputs["x"], np.float32, shift)}) for each in original.large]
    loaded: Any = SimpleNamespace(runner=SimpleNamespace(name="LiteRT"), signature=signature)
    workspace: Any = SimpleNamespace(jobs=Jobs(tmp_path, print))
    comparison = _Comparison(loaded, original, Limits(1e-4), workspace)
    assert asyncio.run(comparison._compare_large(exported)) == differs
