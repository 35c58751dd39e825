"""The original's answers: which of them cannot be compared with anything."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.export.cases import Case
from gateway.export.errors import CannotExport
from gateway.export.jobs import Jobs
from gateway.export.original import Original, Outcome
from gateway.export.source import Source
from gateway.repository.model_config import ModelConfig
from runtimes.contract import Signature, TensorSpec


class Fake(Original):
    """An original that returns one of these answers after another."""

    def __init__(self, tmp_path: Path, *found: np.ndarray) -> None:
        spec = TensorSpec("x", "FP32", (-1,))
        source = Source(
            ModelConfig("model", "1", ""), "onnx", None, {}, "default",  # type: ignore[arg-type]
            Signature((spec,), (spec._replace(name="y"),)), {"x": (1,)}, True,
        )  # fmt: skip
        super().__init__(source, Jobs(tmp_path, print))
        self._found = iter(found)

    async def _run(self, cases: Any, *others: Any, **options: Any) -> list[Outcome]:
        return [Outcome(case, {"y": next(self._found)}) for case in cases]


def answer(original: Original) -> None:
    asyncio.run(original.answer([Case("first", {}), Case("last", {})], 1e-4))


@pytest.mark.parametrize(
    "y", [np.full(2, np.inf, np.float32), np.full(2, np.nan, np.float32), np.zeros((0,), np.float32)]
)
def test_an_answer_without_numbers_is_the_same_the_second_time(tmp_path: Path, y: np.ndarray) -> None:
    original = Fake(tmp_path, *[y] * 4)
    answer(original)
    assert len(original.answered) == 2


@pytest.mark.parametrize("again", [[1.0, 2.5], [np.nan, 2.0], [np.inf, 2.0], [1.0]])
def test_an_answer_that_differs_the_second_time_is_refused(tmp_path: Path, again: list[float]) -> None:
    y, other = np.array([1.0, 2.0], np.float32), np.array(again, np.float32)
    with pytest.raises(CannotExport, match="differently the second time"):
        answer(Fake(tmp_path, y, y, y, other))
