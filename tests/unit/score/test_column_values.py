"""Columns of Arrow as rows of an input: what is converted, and the reason why a row is not."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.score.column_values import Target, problem, read_rows

FLOATS = pa.list_(pa.float64())


def read(values: Any, kind: pa.DataType, datatype: str, shape: tuple[int, ...] | None, json: bool = False) -> Any:
    return read_rows(pa.array(values, kind), Target("x", datatype, shape, json))


@pytest.mark.parametrize(
    ("values", "kind", "datatype", "shape", "expected"),
    [
        ([1, 2], pa.int32(), "INT64", (), [1, 2]),
        ([1, 2], pa.int64(), "FP32", (), [1, 2]),
        ([1.0, 2.0], pa.float64(), "INT8", (), [1, 2]),
        ([1, 2], pa.uint8(), "FP16", (1,), [[1], [2]]),
        ([True, False], pa.bool_(), "BOOL", (), [True, False]),
        ([True, False], pa.bool_(), "FP32", (), [1, 0]),
        ([1, 0], pa.int8(), "BOOL", (), [True, False]),
        ([[1, 2], [3, 4]], FLOATS, "FP32", (2,), [[1, 2], [3, 4]]),
        ([[1, 2], [3, 4]], pa.list_(pa.float32(), 2), "FP32", (-1,), [[1, 2], [3, 4]]),
        ([[1, 2, 3, 4]], pa.large_list(pa.int8()), "INT32", (2, 2), [[[1, 2], [3, 4]]]),
        ([[[1, 2], [3, 4]]], pa.list_(pa.list_(pa.int8(), 2)), "INT32", (2, 2), [[[1, 2], [3, 4]]]),
        ([[1, 2]], FLOATS, "", None, [[1.0, 2.0]]),
        (["1.5", " 2e3 ", "nan"], pa.string(), "FP64", (), [1.5, 2000, np.nan]),
        (["7", "-3"], pa.string(), "INT16", (1,), [[7], [-3]]),
        (["[1, 2]", "[3,4]"], pa.string(), "FP32", (2,), [[1, 2], [3, 4]]),
        (["[1, NaN]", "[3,4]"], pa.string(), "FP32", (2,), [[1, np.nan], [3, 4]]),
        ([np.nan, np.inf], pa.float32(), "FP32", (), [np.nan, np.inf]),
    ],
)
def test_what_is_converted(values: Any, kind: Any, datatype: str, shape: Any, expected: Any) -> None:
    found = read(values, kind, datatype, shape)
    assert found.bad == {}
    np.testing.assert_array_equal(found.values, expected)


@pytest.mark.parametrize(
    ("value", "kind", "datatype", "shape", "reason"),
    [
        (None, pa.float64(), "FP32", (), "input 'x' is null"),
        (1e300, pa.float64(), "FP32", (), "the data of input 'x' holds a number too large for FP32"),
        (300, pa.int64(), "INT8", (), "the data of input 'x' holds 300, out of the range of INT8: -128 to 127"),
        (1.5, pa.float64(), "INT64", (), "input 'x' has datatype INT64, and its data holds 1.5; send integers only"),
        (float("nan"), pa.float64(), "INT64", (), "input 'x' has datatype INT64, and its data holds nan"),
        (1e300, pa.float64(), "INT64", (), "the data of input 'x' holds an integer beyond 64 bits, out of the range"),
        (2, pa.int64(), "BOOL", (), "input 'x' has datatype BOOL; send true and false, or 1 and 0"),
        ([1.0], FLOATS, "FP32", (2,), "input 'x' has shape [1] in this row, expected [2]"),
        ([], FLOATS, "FP32", (2,), "input 'x' has shape [0] in this row, expected [2]"),
        ([1.0, None], FLOATS, "FP32", (2,), "input 'x' has datatype FP32, and its data holds null; send numbers only"),
        ([[1.0], [2.0, 3.0]], pa.list_(FLOATS), "FP32", (2, 2), "the data of input 'x' is ragged at depth 1"),
        ("abc", pa.string(), "FP32", (), "input 'x' is the text 'abc', which is not a number"),
        ("", pa.string(), "FP32", (), "input 'x' is null"),
        ("[1, 2", pa.string(), "FP32", (2,), "input 'x' is the text '[1, 2', which is not a number"),
        ('{"a": 1}', pa.string(), "FP32", (), "input 'x' has datatype FP32, and its data holds an object"),
    ],
)  # fmt: skip
def test_a_bad_row_is_left_out_with_its_reason(value: Any, kind: Any, datatype: str, shape: Any, reason: str) -> None:
    good = {"string": "1", "list<item: double>": [1.0, 2.0]}.get(str(kind), 1)
    if str(kind).startswith("list<item: list"):
        good = [[1.0, 2.0], [3.0, 4.0]]
    if kind == pa.string() and shape == (2,):
        good = "[1, 2]"
    found = read([good, value, good], kind, datatype, shape)
    assert list(found.bad) == [1]
    assert found.bad[1].startswith(reason)
    np.testing.assert_array_equal(found.values[0], found.values[2])


def test_strings_are_any_bytes() -> None:
    found = read(["ü", None, ""], pa.string(), "BYTES", ())
    assert found.bad == {1: "input 'x' is null"}
    assert [found.values[0], found.values[2]] == ["ü", ""]
    found = read([b"\xff", b"\0"], pa.binary(), "BYTES", (1,))
    assert found.values.tolist() == [[b"\xff"], [b"\0"]]
    found = read([["a", "b"], ["c"]], pa.list_(pa.string()), "BYTES", (2,))
    assert found.bad == {1: "input 'x' has shape [1] in this row, expected [2]"}


def test_json_text_of_strings_is_read() -> None:
    found = read(['["a", "b"]', '["c", 1]', "null"], pa.string(), "BYTES", (2,), json=True)
    assert found.values[0].tolist() == ["a", "b"]
    assert sorted(found.bad) == [1, 2]


def test_rows_of_different_sizes_stay_apart() -> None:
    found = read([[1, 2], [3], None, []], FLOATS, "FP32", (-1,))
    assert [each.tolist() for number, each in enumerate(found.values) if number != 2] == [[1, 2], [3], []]
    assert list(found.bad) == [2]


def test_dictionaries_and_tensors_of_arrow_are_read() -> None:
    assert read_rows(pa.array(["a", "b", "a"]).dictionary_encode(), Target("x", "BYTES", ())).values.tolist() == [
        "a", "b", "a",
    ]  # fmt: skip
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    np.testing.assert_array_equal(read_rows(tensors, Target("x", "FP32", (2, 2))).values, np.arange(8).reshape(2, 2, 2))


@pytest.mark.parametrize(
    ("kind", "datatype"),
    [(pa.timestamp("s"), "FP32"), (pa.struct([("a", pa.int8())]), "FP32"), (pa.int8(), "BYTES"), (pa.date32(), "")],
)
def test_columns_that_can_never_fit_have_a_problem(kind: pa.DataType, datatype: str) -> None:
    assert problem(kind, datatype).startswith("it holds ")


VALUES = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=5)
CELLS = VALUES | st.lists(VALUES, max_size=3) | st.lists(st.lists(st.floats(width=32), max_size=2), max_size=3)


@settings(deadline=None)
@given(
    st.lists(CELLS, max_size=12),
    st.sampled_from(["FP32", "FP16", "INT8", "UINT64", "BOOL", "BYTES", ""]),
    st.sampled_from([(), (1,), (2,), (-1,), (2, 2), (-1, -1), None]),
)
def test_each_row_is_as_it_would_be_alone(cells: list[Any], datatype: str, shape: Any) -> None:
    try:
        column = pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        column = pa.array([repr(cell) for cell in cells])  # as a file of text would have them
    if problem(column.type, datatype):
        return
    target = Target("x", datatype, shape)
    together = read_rows(column, target)
    assert len(together.values) == len(column)
    for number in range(len(column)):
        alone = read_rows(column[number : number + 1], target)
        assert together.bad.get(number) == alone.bad.get(0)
        if number not in together.bad:
            np.testing.assert_array_equal(together.values[number], alone.values[0])
            assert datatype in ("", "BYTES") or together.values[number].dtype == alone.values[0].dtype


def test_tensors_whose_values_are_in_another_order_are_refused() -> None:
    """Their lists have the values of [[1, 4], [2, 5], [3, 6]] as 1 to 6."""
    assert "permuted" in problem(pa.fixed_shape_tensor(pa.float32(), [2, 3], permutation=[1, 0]), "FP32")
    assert not problem(pa.fixed_shape_tensor(pa.float32(), [2, 3], permutation=[0, 1]), "FP32")
    assert not problem(pa.fixed_shape_tensor(pa.float32(), [2, 3]), "FP32")
