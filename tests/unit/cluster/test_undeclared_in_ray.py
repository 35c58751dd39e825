"""Inputs without a datatype, in the actors of Ray Data: the values are the local engine's."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gateway.cluster.ray_data import Scorer
from gateway.errors import InvalidRequest
from tests.support.embedded_models import use_fake_runtime
from tests.support.undeclared_inputs import CASES, add_undeclared, of_local_engine

DATATYPES = {"strings": "BYTES", "integers_as_text": "INT64", "numbers_as_text": "FP32"}


@pytest.fixture
def open_scorer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Scorer]]:
    use_fake_runtime(monkeypatch, tmp_path)
    with ExitStack() as stack:

        def open_one(name: str, **options: Any) -> Scorer:
            scorer = Scorer(add_undeclared(tmp_path, name), **options)
            stack.enter_context(scorer.model)
            return scorer

        yield open_one


@pytest.mark.parametrize("name", CASES)
def test_values_are_the_local_engines(name: str, open_scorer: Callable[..., Scorer], tmp_path: Path) -> None:
    case = CASES[name]
    scorer = open_scorer(name, datatypes={"x": DATATYPES[name]} if name in DATATYPES else None)
    assert of_local_engine(tmp_path, name) == case.expected
    for table in (pa.table({"x": pa.array(case.values, case.kind)}), pa.table({"x": pa.array([], case.kind)})):
        found = scorer(table)
        assert found.num_rows == table.num_rows
        assert found["y"].to_pylist() == case.expected[: table.num_rows]
        assert [error is None for error in found["error"].to_pylist()] == [
            value is not None for value in case.expected[: table.num_rows]
        ]


def test_rows_without_values_decide_nothing(open_scorer: Callable[..., Scorer]) -> None:
    """The first block of an actor may have none, or only rows that the model refuses."""
    scorer = open_scorer("fp32_of_fp64")
    empty = scorer(pa.table({"x": pa.array([None, None], pa.float64())}))
    assert empty["error"].to_pylist() == ["input 'x' is null"] * 2
    refused = scorer(pa.table({"x": pa.array([400.0], pa.float64())}))
    assert refused["error"].to_pylist() != [None]
    assert scorer(pa.table({"x": pa.array([0.5, 2.0], pa.float64())}))["y"].to_pylist() == [1.0, 4.0]


def test_text_needs_a_datatype(open_scorer: Callable[..., Scorer]) -> None:
    """What one actor would make of its first rows is not what another would."""
    scorer = open_scorer("integers_as_text")
    with pytest.raises(InvalidRequest, match=r"input 'x', and column 'x' is text.* pass it as datatypes"):
        scorer(pa.table({"x": ["7"]}))
