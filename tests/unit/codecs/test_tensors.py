"""Conversion between nested lists and tensors, without silent coercion."""

import json
import random
from typing import Any

import numpy as np
import pytest

from gateway.codecs.json_tensors import guess_tensor, json_values, raw_tensor, read_tensor
from gateway.codecs.json_text import dumps, loads
from gateway.errors import InvalidRequest
from runtimes.contract import DATATYPES
from runtimes.tensors import from_array, integer_range, to_array

INTEGERS = [name for name, known in DATATYPES.items() if known.kind in ("int", "uint")]


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_are_accepted_up_to_their_limits(datatype: str) -> None:
    least, most = integer_range(datatype)
    tensor = read_tensor("x", [[least, most]], datatype)
    assert to_array(tensor).tolist() == [[least, most]]
    for beyond in (least - 1, most + 1):
        with pytest.raises(InvalidRequest, match="out of the range"):
            read_tensor("x", [0, beyond], datatype)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP32", ["1.5"]), ("FP32", [None]), ("FP32", [True]), ("FP32", [1.0, True]), ("FP32", [1, "2"]),
        ("FP32", [{}]), ("FP32", "1.5"), ("FP32", None), ("FP32", [[1.0], {}]), ("FP32", [[1.0], ""]),
        ("INT64", [1.0]), ("INT64", [1, True]), ("INT64", ["1"]), ("INT64", [2.5]), ("INT64", [1, None]),
        ("BOOL", [2]), ("BOOL", [1.0]), ("BOOL", ["true"]), ("BOOL", [None]), ("BOOL", [True, -1]),
        ("BYTES", [1]), ("BYTES", ["a", 1]), ("BYTES", [None]), ("BYTES", ["a", True]), ("BYTES", [["a"], "bc"]),
        ("BYTES", [{"b64": "?"}]), ("BYTES", [{"b64": 1}]), ("BYTES", [{"b64": "é"}]), ("BYTES", [{"b64": "", "c": 1}]),
        ("FP16", [65520.0]), ("FP32", [1e39]), ("FP32", [-(10**39)]), ("FP64", [10**400]),
    ],
)  # fmt: skip
def test_values_of_another_datatype_are_rejected(datatype: str, data: Any) -> None:
    with pytest.raises(InvalidRequest, match="'x'"):
        read_tensor("x", data, datatype)


def test_numbers_keep_their_value() -> None:
    assert to_array(read_tensor("x", [1, 2.5], "FP32")).tolist() == [1.0, 2.5]
    assert to_array(read_tensor("x", [65504.0], "FP16")).tolist() == [65504.0]
    assert to_array(read_tensor("x", [2**63, 1], "UINT64")).tolist() == [2**63, 1]
    assert to_array(read_tensor("x", [True, 0, 1], "BOOL")).tolist() == [True, False, True]
    assert to_array(read_tensor("x", ["é", {"b64": "/w=="}], "BYTES")).tolist() == ["é".encode(), b"\xff"]
    values = to_array(read_tensor("x", loads(b"[NaN, Infinity, -Infinity]"), "FP16"))
    assert np.isnan(values[0])
    assert values[1:].tolist() == [np.inf, -np.inf]


def test_flat_data_with_a_shape() -> None:
    assert read_tensor("x", [1, 2, 3, 4], "INT8", [2, 2]) == read_tensor("x", [[1, 2], [3, 4]], "INT8", [2, 2])
    assert read_tensor("x", [5], "INT8", []).shape == ()
    assert read_tensor("x", [], "INT8", [0, 3]).shape == (0, 3)
    with pytest.raises(InvalidRequest, match="nested as"):
        read_tensor("x", [[1, 2], [3, 4]], "INT8", [4])


@pytest.mark.parametrize(
    ("data", "likely", "datatype"),
    [
        ([True], "", "BOOL"), (["a"], "", "BYTES"), ([1], "", "INT64"), ([1, 2.5], "", "FP32"), ([], "", "FP32"),
        ([1], "UINT8", "UINT8"), ([1.5], "UINT8", "FP32"), ([300], "UINT8", "INT64"), ([1], "FP64", "FP64"),
        (["a"], "FP32", "BYTES"), ([{"b64": "AA=="}], "", "BYTES"), ([1, 0], "BOOL", "BOOL"),
    ],
)  # fmt: skip
def test_an_unknown_datatype_is_guessed_and_a_learned_one_preferred(data: Any, likely: str, datatype: str) -> None:
    assert guess_tensor("x", data, likely).datatype == datatype


@pytest.mark.parametrize("data", [[None], [True, 1], ["a", 1], [{}, 1], [[1], [1, 2]], [2**64], [1e300]])
def test_mixed_values_are_rejected(data: Any) -> None:
    with pytest.raises(InvalidRequest, match="'x'"):
        guess_tensor("x", data)


def test_raggedness_is_judged_as_a_plain_reading_would() -> None:
    generator = random.Random(7)

    def shape_of(data: Any) -> tuple[int, ...] | None:
        if not isinstance(data, list):
            return ()
        shapes = {shape_of(item) for item in data}
        if len(shapes) > 1 or None in shapes:
            return None
        return (len(data), *(shapes.pop() if shapes else ()))  # type: ignore[misc]

    def make(depth: int) -> Any:
        if depth == 0 or generator.random() < 0.03:
            return generator.randint(0, 9)
        return [make(depth - 1) for _ in range(generator.choice([1, 2, 2, 2, 2, 0]))]

    seen = set()
    for _ in range(3000):
        data = make(generator.randint(0, 3))
        expected = shape_of(data)
        seen.add(expected is None)
        if expected is None:
            with pytest.raises(InvalidRequest, match="ragged"):
                read_tensor("x", data, "INT8")
        else:
            tensor = read_tensor("x", data, "INT8")
            assert tensor.shape == expected
            assert to_array(tensor).ravel().tolist() == _leaves(data)
    assert seen == {True, False}


def _leaves(data: Any) -> list[Any]:
    return [leaf for item in data for leaf in _leaves(item)] if isinstance(data, list) else [data]


def test_booleans_that_came_as_bytes_are_0_or_1() -> None:
    assert raw_tensor("x", "BOOL", [2], b"\0\1").data == b"\0\1"
    with pytest.raises(InvalidRequest, match="0 or 1"):
        raw_tensor("x", "BOOL", [2], b"\0\2")


def test_answers_write_non_finite_values_as_literals() -> None:
    array = np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float32)
    assert dumps({"y": json_values(from_array("y", array))}) == b'{"y":[[1.5,NaN],[Infinity,-Infinity]]}'
    assert dumps({"y": json_values(from_array("y", array), flat=True)}) == b'{"y":[1.5,NaN,Infinity,-Infinity]}'


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_value_that_is_not_finite_changes_no_other(value: float, dtype: type) -> None:
    array = np.array([0.1, -2.5e-7, 65504, 0.1], dtype)
    finite = dumps(json_values(from_array("y", array)))
    array[3] = value
    literal = json.dumps(value).encode()
    assert dumps(json_values(from_array("y", array))) == finite[: finite.rindex(b",") + 1] + literal + b"]"
    assert dumps(json_values(from_array("y", array[3:].reshape(())))) == literal


@pytest.mark.parametrize("array", [np.float32(2.5), np.zeros((2, 0), np.int8), np.zeros((0, 2), np.float16)])
def test_answers_write_scalars_and_empty_arrays(array: Any) -> None:
    array = np.asarray(array)
    assert json.loads(dumps(json_values(from_array("y", array)))) == array.tolist()


def test_answers_write_bytes_that_are_not_text_as_base64() -> None:
    array = np.array([[b"a", b"\xff"]], dtype=object)
    assert json_values(from_array("y", array)) == [["a", {"b64": "/w=="}]]
    assert json_values(from_array("y", array), flat=True) == ["a", {"b64": "/w=="}]


def test_json_accepts_literals_but_not_lone_surrogates() -> None:
    assert loads(b'{"a": "\\ud83d\\ude00", "b": [Infinity]}') == {"a": "😀", "b": [float("inf")]}
    with pytest.raises(InvalidRequest, match="UTF-8"):
        loads(b'["\\ud83d", NaN]')
