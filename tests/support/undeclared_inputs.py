"""Columns for an input without a datatype, and what a model makes of them that doubles what it accepts."""

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from gateway.score.run import ScoreRequest, score
from modelport import ModelSpec
from tests.support.model_repositories import add_fake


class Case(NamedTuple):
    """accepts: the datatypes of the model. expected: the doubled rows; None for those that are bad."""

    values: list[Any]
    kind: pa.DataType
    accepts: tuple[str, ...]
    expected: list[Any]


CASES = {
    "int64": Case([1, None, (1 << 53) + 1], pa.int64(), ("INT64", "FP32"), [2, None, (1 << 54) + 2]),
    "floats_of_integers": Case([1, 2, 3], pa.int32(), ("FP32",), [2.0, 4.0, 6.0]),
    "fp64": Case([0.1, None, 3.0], pa.float64(), ("FP64", "FP32"), [0.2, None, 6.0]),
    "fp32_of_fp64": Case([0.5, 2.0, None], pa.float64(), ("FP32",), [1.0, 4.0, None]),
    "fp16": Case([0.5, 2.0, 3.0], pa.float32(), ("FP16",), [1.0, 4.0, 6.0]),
    # 1.00390625 is between two BF16s
    "bf16": Case([1.5, 1.00390625, None], pa.float32(), ("BF16",), [3.0, 2.0, None]),
    "strings": Case(["a", None, "ü"], pa.string(), ("BYTES",), [b"aa", None, "üü".encode()]),
    "integers_as_text": Case(["7", "", "-3"], pa.string(), ("INT64", "FP32"), [14, None, -6]),
    "numbers_as_text": Case(["7", "0x10", "2.5"], pa.string(), ("FP32",), [14.0, None, 5.0]),
    "bools": Case([True, False, None], pa.bool_(), ("BOOL",), [True, False, None]),
    "lists": Case([[1, 2], [3], None], pa.list_(pa.int64()), ("INT64",), [[2, 4], [6], None]),
    "nested": Case(
        [[[0.5], [1.0]], [[2.0], [None]], [[4.0], [5.0]]], pa.list_(pa.list_(pa.float64())), ("FP32",),
        [[[1.0], [2.0]], None, [[8.0], [10.0]]],
    ),
}  # fmt: skip


def add_undeclared(folder: Path, name: str) -> ModelSpec:
    """Add a fake model that declares nothing of its input x, and accepts what the case says."""
    accepts = CASES[name].accepts
    add_fake(folder / "repository", name, inputs=[{"name": "x"}], outputs=None, accepts=accepts)
    return ModelSpec(str(folder / "repository" / name), threads=1)


def of_local_engine(folder: Path, name: str) -> list[Any]:
    """Return what `modelport score` makes of the case; None for bad rows, which are in its side file."""
    case, source, output = CASES[name], folder / f"{name}.parquet", folder / f"{name}.scores.parquet"
    pq.write_table(pa.table({"row": range(len(case.values)), "x": pa.array(case.values, case.kind)}), source)
    request = ScoreRequest(ModelSpec(str(folder / "repository" / name), threads=1), (str(source),), output)
    summary = score(request, _Quiet())
    assert summary.read == summary.scored + summary.bad == len(case.values)
    found = {row["row"]: row["y"] for row in pq.read_table(output).to_pylist()}
    return [found.get(row) for row in range(len(case.values))]


class _Quiet:
    def begin(self, *arguments: object) -> None: ...

    def advance(self, *arguments: object) -> None: ...
