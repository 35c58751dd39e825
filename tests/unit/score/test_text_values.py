"""Texts as numbers: one grammar, whichever way a column is read, and never another number than the text says."""

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.score.column_values import Target, read_rows

NOT_A_NUMBER = "which is not a number"
TEXT = pa.string()
INEXACT = "write integers beyond 2^53 without a point or an exponent"


def read(text: Any, datatype: str, shape: tuple[int, ...] = (), kind: pa.DataType = TEXT) -> Any:
    """Return the value, or the reason why there is none: the same alone and among others."""
    alone = read_rows(pa.array([text], kind), Target("x", datatype, shape))
    twice = read_rows(pa.array([text, None, text], kind), Target("x", datatype, shape))
    assert alone.bad.get(0) == twice.bad.get(0) == twice.bad.get(2)
    if 0 in alone.bad:
        return alone.bad[0]
    np.testing.assert_array_equal(np.asarray(alone.values[0]), np.asarray(twice.values[2]))
    return alone.values[0]


@pytest.mark.parametrize(
    ("text", "datatype", "expected"),
    [
        ("7", "INT64", 7), (" 7\t", "INT64", 7), ("\u00a07", "INT8", 7), ("+7", "INT64", 7), ("007", "INT64", 7),
        ("1e3", "INT64", 1000), ("5.0", "UINT8", 5), ("5.", "INT64", 5), ("-0", "INT64", 0), ("true", "INT64", 1),
        ("TRUE", "FP32", 1.0), ("False", "FP32", 0.0), ("True", "BOOL", True), ("false", "BOOL", False),
        ("1", "BOOL", True), ("0", "BOOL", False), (".5", "FP64", 0.5), ("+.5e1", "FP64", 5.0),
        ("-inf", "FP32", -math.inf), ("Infinity", "FP32", math.inf), ("NaN", "FP16", math.nan),
        ("1e-400", "FP64", 0.0), ("-0.0", "FP64", -0.0),
        ("9007199254740993", "INT64", 9007199254740993), ("+9007199254740993", "INT64", 9007199254740993),
        ("009007199254740993", "INT64", 9007199254740993), ("18446744073709551615", "UINT64", 18446744073709551615),
        ("-9223372036854775808", "INT64", -9223372036854775808), ("16777217", "FP32", 16777216.0),
        ("99999999999999999999", "FP64", 1e20),
    ],
)  # fmt: skip
def test_what_is_a_number(text: str, datatype: str, expected: Any) -> None:
    np.testing.assert_array_equal(np.asarray(read(text, datatype)), expected)


@pytest.mark.parametrize(
    ("text", "datatype", "reason"),
    [
        ("0x10", "INT64", NOT_A_NUMBER), ("0X1F", "UINT8", NOT_A_NUMBER), ("0x1p3", "FP32", NOT_A_NUMBER),
        ("0b1", "INT64", NOT_A_NUMBER), ("0o7", "INT64", NOT_A_NUMBER), ("1_000", "INT64", NOT_A_NUMBER),
        ("1_0.5", "FP32", NOT_A_NUMBER), ("1,000", "FP32", NOT_A_NUMBER), ("1 000", "INT64", NOT_A_NUMBER),
        ("nan(5)", "FP32", NOT_A_NUMBER), ("1d3", "FP64", NOT_A_NUMBER), ("\u0661", "INT64", NOT_A_NUMBER),
        ("--5", "INT64", NOT_A_NUMBER), ("5e", "FP32", NOT_A_NUMBER), ("None", "FP32", NOT_A_NUMBER),
        ("yes", "BOOL", NOT_A_NUMBER), ("2024-01-31", "INT64", NOT_A_NUMBER), ("", "FP32", "is null"),
        ("  ", "INT64", "is null"), ("null", "FP32", "holds null"), ("nan", "INT64", "holds nan"),
        ("inf", "INT64", "holds inf"), ("1.5", "INT64", "holds 1.5"), ("300", "INT8", "out of the range of INT8"),
        ("-1", "UINT64", "out of the range of UINT64"), ("1e39", "FP32", "too large for FP32"),
        ("65520", "FP16", "too large for FP16"), ("1e400", "FP64", "too large for a number"),
        ("9223372036854775808", "INT64", "out of the range of INT64"), ("9007199254740993.0", "INT64", INEXACT),
        ("9007199254740993e0", "INT64", INEXACT), ("1e18", "INT64", INEXACT), ("2", "BOOL", "send true and false"),
        ('"5"', "INT64", "holds a string"), ("[5]", "INT64", "has shape [1]"),
    ],
)  # fmt: skip
def test_what_is_none(text: str, datatype: str, reason: str) -> None:
    found = read(text, datatype)
    assert isinstance(found, str), found
    assert reason in found


@pytest.mark.parametrize(
    ("text", "datatype", "expected"),
    [
        ("[1, 9007199254740993]", "INT64", [1, 9007199254740993]),
        ("[1.0, 2]", "INT64", [1, 2]),
        ("[1, 18446744073709551615]", "UINT64", [1, 18446744073709551615]),
        ("[1.0, 9007199254740993.0]", "INT64", INEXACT),
        ("[0x10, 1]", "INT64", NOT_A_NUMBER),
        ("[1_0, 1]", "INT64", NOT_A_NUMBER),
        ("[NaN, 1]", "FP32", [math.nan, 1]),
        ("[1, null]", "FP32", "holds null"),
        ("[1e400, 1]", "FP64", NOT_A_NUMBER),
    ],
)
def test_lists(text: str, datatype: str, expected: Any) -> None:
    found = read(text, datatype, (2,))
    if isinstance(expected, str):
        assert expected in found
    else:
        np.testing.assert_array_equal(found, expected)


def test_texts_of_lists_in_columns_of_lists_follow_the_same_grammar() -> None:
    assert NOT_A_NUMBER in read(["1", "0x10"], "INT64", (2,), pa.list_(pa.string()))
    np.testing.assert_array_equal(read(["1", "+2"], "INT64", (2,), pa.list_(pa.string())), [1, 2])


@settings(deadline=None)
@given(st.text("0123456789+-.eExX_ naif", max_size=8), st.sampled_from(["INT64", "UINT8", "FP64"]))
def test_a_number_is_what_python_reads_too(text: str, datatype: str) -> None:
    found = read(text, datatype)
    if not isinstance(found, str):
        np.testing.assert_array_equal(np.float64(found), float(text))


@settings(deadline=None)
@given(st.decimals(-(10**9), 10**9, places=6))
def test_decimals_become_the_nearest_float(value: Decimal) -> None:
    """Arrow's own cast makes -9398597.790000001 of -9398597.79."""
    assert read(value, "FP64", (), pa.decimal128(20, 6)) == float(value)
    assert read(value, "FP32", (), pa.decimal256(40, 6)) == np.float32(float(value))
    found = read(value, "INT64", (), pa.decimal128(20, 6))
    assert found == int(value) if value == int(value) else "send integers only" in found


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us"), pa.time64("us"), pa.duration("s")])
def test_dates_and_times_are_no_numbers(kind: pa.DataType) -> None:
    from gateway.score.column_values import problem

    for datatype in ("INT64", "FP32", "BYTES", ""):
        assert problem(kind, datatype).startswith("it holds ")


@pytest.mark.parametrize(
    ("column", "datatype", "expected"),
    [
        (pa.array([3, None, 5]).dictionary_encode(), "INT64", {0: 3, 2: 5}),
        (pa.array(["7", "0x7", None]).dictionary_encode(), "INT64", {0: 7}),
        (pa.array([2.0**53, 1e300, 1e18], pa.float64()), "INT64", {0: 2**53, 2: 10**18}),
        (pa.array([2**64 - 1, 1], pa.uint64()), "INT64", {1: 1}),
        (pa.array([200, 100], pa.uint8()), "INT8", {1: 100}),
        (pa.array([1e5, 1.5], pa.float64()), "FP16", {1: 1.5}),
        (pa.array([np.float16(0.5), None], pa.float16()), "FP32", {0: 0.5}),
    ],
)
def test_typed_columns(column: pa.Array, datatype: str, expected: dict[int, Any]) -> None:
    found = read_rows(column, Target("x", datatype, ()))
    assert {row: found.values[row] for row in range(len(column)) if row not in found.bad} == expected
