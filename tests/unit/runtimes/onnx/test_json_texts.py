"""Values that are not tensors, as JSON texts."""

import json
from typing import Any

import numpy as np
import pytest

from runtimes.onnx.json_texts import is_written, texts


@pytest.mark.parametrize(
    "kind",
    [
        "seq(tensor(float))",
        "seq(map(int64,tensor(float)))",
        "seq(map(string,tensor(double)))",
        "map(string,tensor(int64))",
        "optional(tensor(float16))",
        "optional(seq(tensor(string)))",
    ],
)
def test_sequences_maps_and_optional_values_are_written(kind: str) -> None:
    assert is_written(kind)


@pytest.mark.parametrize(
    "kind", ["tensor(float)", "sparse_tensor(float)", "seq(sparse_tensor(float))", "seq(tensor(bfloat16))", "opaque(x)"]
)
def test_other_types_are_not(kind: str) -> None:
    assert not is_written(kind)


@pytest.mark.parametrize(
    ("value", "kind", "shape", "expected"),
    [
        ([{0: float(np.float32(0.1)), -1: 1.0}], "seq(map(int64,tensor(float)))", (1,), ['{"0":0.1,"-1":1.0}']),
        ([{"ü": 0.1}, {}], "seq(map(string,tensor(double)))", (2,), ['{"ü":0.1}', "{}"]),
        ({"a": 3}, "map(string,tensor(int64))", (), ['{"a":3}']),
        ([np.array([[0.1]], np.float32), np.zeros(0, np.float32)], "seq(tensor(float))", (2,), ["[[0.1]]", "[]"]),
        (np.array(2.5, np.float16), "optional(tensor(float16))", (), ["2.5"]),
        ([np.array(["a\n", ""], object)], "seq(tensor(string))", (1,), [r'["a\n",""]']),
        ([np.array([True])], "seq(tensor(bool))", (1,), ["[true]"]),
        (None, "optional(tensor(float))", (), ["null"]),
        ([], "seq(tensor(float))", (0,), []),
        ([np.array([np.nan, -np.inf], np.float32)], "seq(tensor(float))", (1,), ["[NaN,-Infinity]"]),
    ],
)
def test_texts(value: Any, kind: str, shape: tuple[int, ...], expected: list[str]) -> None:
    found = texts(value, kind)
    assert found.shape == shape
    assert [text.decode() for text in found.ravel()] == expected
    for text in found.ravel():
        json.loads(text)
