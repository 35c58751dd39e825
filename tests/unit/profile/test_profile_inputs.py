"""Inputs of a profile: recorded as npz or as JSON lines of v2 requests."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.export.errors import CannotExport
from gateway.export.source import ServedBatches
from gateway.profile.inputs import read
from runtimes.contract import Signature, TensorSpec

TENSOR = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1.5] * 6}


def source(rows: int = 32, dim: int = 0, shape: tuple[int, ...] = (-1, -1)) -> Any:
    return SimpleNamespace(
        signature=Signature((TensorSpec("x", "FP32", shape),), ()), served=ServedBatches(rows, (), dim, "")
    )


def lines(*tensors: dict[str, Any]) -> str:
    return "\n\n".join(json.dumps({"id": "1", "inputs": [tensor]}) for tensor in tensors)


def test_rows_of_requests_of_the_most_frequent_shape_are_joined(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    longer = {**TENSOR, "shape": [1, 4], "data": [[1, 2, 3, 4]]}
    file.write_text(lines(TENSOR, longer, {**TENSOR, "shape": [1, 3], "data": [7, 8, 9]}))
    found = read(file, source())
    assert found.origin == "3 requests of requests.jsonl"
    assert found.arrays["x"].tolist() == [[1.5] * 3, [1.5] * 3, [7, 8, 9]]
    assert "of 3, 2 of one shape were used" in found.note
    assert read(file, source(rows=0)).arrays["x"].shape == (2, 3)


def test_rows_are_joined_in_their_dimension(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **{f"x.{number}": np.ones((3, number + 1)) for number in range(2)})
    found = read(tmp_path / "data.npz", source(dim=1))
    assert (found.arrays["x"].shape, found.arrays["x"].dtype, found.note) == ((3, 3), np.float32, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "line 1 of .* is not a v2 request body"),
        ("[1]", "line 1 of .* is not a v2 request body"),
        ("\n{", "line 2 of .* is not a v2 request body"),
        (lines({**TENSOR, "data": [1]}), "line 1 of .*has 1 value of data, but shape"),
        (lines(TENSOR, {**TENSOR, "name": "y"}), "line 3 of .* lacks the input 'x'"),
        (lines({**TENSOR, "shape": [6]}), r"line 1 of .*'x' has shape \[6\], the model expects \[-1, -1\]"),
        ("", "holds no requests"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text(text)
    with pytest.raises(CannotExport, match=message):
        read(file, source())
