"""Inputs without a datatype: all rows of a run get the first one that the model accepts."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import modelport
from gateway.score.errors import CannotScore
from gateway.score.run import ScoreRequest, Summary, score
from gateway.score.scorer import Scorer
from tests.support.embedded_models import add_model, use_fake_runtime


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_fake_runtime(monkeypatch, tmp_path)


class Quiet:
    def begin(self, source: Any, scorer: Scorer, done: int) -> None: ...

    def advance(self, rows: int, bad: int, position: int) -> None: ...


def undeclared(folder: Path, *accepts: str) -> str:
    """A model y = 2x that declares nothing, and accepts these datatypes."""
    return add_model(folder, inputs=[{"name": "x"}], outputs=None, accepts=accepts)


def scored(folder: Path, file: Path, *accepts: str) -> tuple[Summary, pa.ChunkedArray]:
    output = folder / "out.parquet"
    spec = modelport.ModelSpec(undeclared(folder, *accepts))
    summary = score(ScoreRequest(spec, (str(file),), output, batch_rows=2), Quiet())
    return summary, pq.read_table(output)["y"]


@pytest.mark.parametrize(
    ("accepts", "kind"),
    [("FP32", pa.float32()), ("FP64", pa.float64()), ("INT64", pa.int64()), ("INT16", pa.int16())],
)
@pytest.mark.parametrize("values", [[[1, 2], [3, 4], [5, 6]], [[1, 2], [3], [4, 5, 6]], [7, 8, 9]], ids=str)
def test_numbers_of_a_typed_column(values: list[Any], accepts: str, kind: pa.DataType, tmp_path: Path) -> None:
    """Its own datatype is the first, and others follow. Rows may have different sizes, also after the first answer."""
    nested = pa.list_(pa.int16()) if isinstance(values[0], list) else pa.int16()
    pq.write_table(pa.table({"x": pa.array(values, nested)}), tmp_path / "in.parquet")
    summary, found = scored(tmp_path, tmp_path / "in.parquet", accepts)
    assert summary[:3] == (3, 3, 0)
    assert found.type == (pa.list_(kind) if isinstance(values[0], list) else kind)
    assert found.to_pylist() == [(2 * np.array(each)).tolist() for each in values]


@pytest.mark.parametrize(
    ("texts", "accepts", "expected"),
    [
        (["1", "2.5", "3"], "FP32", [2.0, 5.0, 6.0]),
        (["1", "2", "3"], "FP32", [2.0, 4.0, 6.0]),
        (["1", "2", "3"], "INT64", [2, 4, 6]),
        (["[1,2]", "[3,0.5]"], "FP64", [[2.0, 4.0], [6.0, 1.0]]),
        (["a", "1"], "BYTES", [b"aa", b"11"]),
        (["1", "2"], "BYTES", [b"11", b"22"]),
    ],
)
def test_text_of_csv(texts: list[str], accepts: str, expected: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text("x\n" + "".join(f'"{text}"\n' for text in texts))
    summary, found = scored(tmp_path, file, accepts)
    assert (summary.scored, summary.bad) == (len(texts), 0)
    assert found.to_pylist() == expected


def test_a_row_that_does_not_fit_later_is_bad(tmp_path: Path) -> None:
    rows: list[Any] = [None, [1.0, 2.0], ["a", "b"], [3.5, 4.0]]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"x": row}) + "\n" for row in rows))
    summary, found = scored(tmp_path, tmp_path / "in.jsonl", "FP32")
    assert summary[:3] == (4, 2, 2)
    assert found.to_pylist() == [[2.0, 4.0], [7.0, 8.0]]


def test_a_model_that_accepts_none_is_refused_once(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.5, 2.5]}), tmp_path / "in.parquet")
    with pytest.raises(
        CannotScore, match=r"as FP64, FP32, FP16, BF16 \(an input is FP32\); declare it under"
    ) as refused:
        scored(tmp_path, tmp_path / "in.parquet", "UINT8")
    assert "datatype of input 'x'" in str(refused.value)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("first", ["", "2,3\n", '"'], ids=["empty", "short", "broken"])
def test_rows_without_a_value_decide_nothing(first: str, tmp_path: Path) -> None:
    """They may be more than are looked at; and a first file may be short."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/0.csv").write_text("x,k\n" + (first or ",1\n") * (1 if first else 300))
    (tmp_path / "in/1.csv").write_text("x,k\n2.5,1\n3,1\n")
    output = tmp_path / "out.parquet"
    spec = modelport.ModelSpec(undeclared(tmp_path, "FP32", "INT64"))
    summary = score(ScoreRequest(spec, (str(tmp_path / "in"),), output), Quiet())
    assert summary.read == summary.scored + summary.bad
    assert pq.read_table(output)["y"].to_pylist()[-2:] == [5.0, 6.0]


def test_null_rows_of_a_typed_column_decide_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([None] * 600 + [1, 2], pa.int64())}), tmp_path / "in.parquet")
    summary, found = scored(tmp_path, tmp_path / "in.parquet", "INT64")
    assert summary[:3] == (602, 2, 600)
    assert found.to_pylist() == [2, 4]


@pytest.mark.parametrize(
    ("a", "b", "accepts", "expected"),
    [
        ([1, 2], [1.0, 0.5], ("INT64", "FP32"), [[2.0, 2.0], [4.0, 1.0]]),
        ([1, 2], [3, 4], ("INT64", "FP32"), [[2, 6], [4, 8]]),
        (["1", "2"], [3, 4], ("FP32",), [[2.0, 6.0], [4.0, 8.0]]),
        (["1", "2"], [Decimal("0.5"), Decimal(4)], ("FP32",), [[2.0, 1.0], [4.0, 8.0]]),
    ],
)
def test_columns_that_are_joined(
    a: list[Any], b: list[Any], accepts: tuple[str, ...], expected: list[Any], tmp_path: Path
) -> None:
    """All of them decide, not only the first."""
    pq.write_table(pa.table({"a": a, "b": b}), tmp_path / "in.parquet")
    model = add_model(tmp_path, inputs=[{"name": "x", "shape": [-1, 2]}], outputs=None, accepts=accepts)
    output = tmp_path / "out.parquet"
    summary = score(ScoreRequest(modelport.ModelSpec(model), (str(tmp_path / "in.parquet"),), output), Quiet())
    assert summary[:3] == (2, 2, 0)
    assert pq.read_table(output)["y"].to_pylist() == expected
