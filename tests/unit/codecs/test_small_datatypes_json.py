"""BF16, FP8 and INT4: every value through JSON and as arrays, against ml_dtypes."""

import io
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codecs.cast import cast
from gateway.codecs.json_tensors import json_values, raw_tensor, read_tensor
from gateway.codecs.json_text import dumps, loads
from gateway.codecs.npy import read_npy, write_npy
from gateway.errors import InvalidRequest
from runtimes.contract import DATATYPES, NARROW_RANGES, numpy_dtype
from runtimes.tensors import Tensor, from_array, to_array, widened
from tests.unit.front.test_round_trips import every_value

LACKING = [each.name for each in DATATYPES.values() if each.typestr is None]
FLOATS = [each for each in LACKING if each not in NARROW_RANGES]


@pytest.mark.parametrize("datatype", LACKING)
def test_every_value_through_json(datatype: str) -> None:
    every = every_value(datatype)
    given = from_array("x", every)
    text = dumps(json_values(given))
    found = to_array(read_tensor("x", loads(text), datatype))
    wide = widened(every)
    np.testing.assert_array_equal(widened(found), wide)
    numbers = ~np.isnan(wide)
    np.testing.assert_array_equal(np.signbit(widened(found))[numbers], np.signbit(wide)[numbers])
    assert [str(each) for each in loads(text)] == [
        str(each) for each in loads(dumps(json_values(from_array("x", wide))))
    ]


@pytest.mark.parametrize("datatype", FLOATS)
def test_bytes_are_those_of_ml_dtypes(datatype: str) -> None:
    every = every_value(datatype)
    finite = every[~np.isnan(widened(every))]
    read = read_tensor("x", finite.tolist(), datatype)
    assert bytes(read.data) == finite.tobytes() == bytes(from_array("x", finite).data)


@pytest.mark.parametrize(("datatype", "low", "high"), [("INT4", -8, 7), ("UINT4", 0, 15)])
def test_integers_of_four_bits_are_bytes(datatype: str, low: int, high: int) -> None:
    numbers = list(range(low, high + 1))
    expected = np.array(numbers, np.int8).tobytes()
    assert bytes(read_tensor("x", numbers, datatype).data) == expected
    assert bytes(from_array("x", np.array(numbers, np.int8).astype(numpy_dtype(datatype))).data) == expected
    assert to_array(Tensor("x", datatype, (16,), expected)).astype(int).tolist() == numbers
    # as ml_dtypes has them in memory
    raw = np.array(numbers, np.int8).astype(numpy_dtype(datatype)).tobytes()
    assert to_array(raw_tensor("x", datatype, (16,), raw)).astype(int).tolist() == numbers
    for beyond in (16, 100, 0xF7):
        with pytest.raises(InvalidRequest, match=f"out of the range of {datatype}: {low} to {high}"):
            raw_tensor("x", datatype, (2,), bytes([0, beyond]))
    for number in (low - 1, high + 1):
        with pytest.raises(InvalidRequest, match=f"holds {number}, out of the range of {datatype}: {low} to {high}"):
            read_tensor("x", [number], datatype)
        with pytest.raises(InvalidRequest, match=f"holds {number}, out of the range of {datatype}: {low} to {high}"):
            cast("x", np.array([number]), datatype)


def nearest(number: float, datatype: str) -> float:
    """Return the value next to a number, of two the one whose last bit is 0."""
    every = every_value(datatype)
    wide = widened(every)
    finite = np.isfinite(wide) & (np.signbit(wide) == (math.copysign(1, number) < 0))
    codes = np.flatnonzero(finite)
    values = [Fraction(float(wide[code])) for code in codes]
    return min(
        zip(values, codes.tolist(), strict=True), key=lambda each: (abs(each[0] - Fraction(number)), each[1] & 1)
    )[0]


@pytest.mark.parametrize("datatype", ["FP8_E4M3FN", "FP8_E5M2"])
@given(number=st.floats(-440, 440) | st.integers(-440, 440).map(float) | st.floats(-1, 1).map(lambda x: x / 100))
def test_numbers_are_rounded_once_to_the_nearest(datatype: str, number: float) -> None:
    assert float(to_array(read_tensor("x", [number], datatype))[0]) == nearest(number, datatype)


@pytest.mark.parametrize("datatype", FLOATS)
def test_a_number_just_beyond_the_middle_is_rounded_away_from_it(datatype: str) -> None:
    """ml_dtypes rounds an array of FP64 to FP32 first, and has the middle itself then, which is rounded to even."""
    step = float(ml_dtypes.finfo(numpy_dtype(datatype)).eps)
    for near, expected in ((2.0**-45, 1 + step), (0.0, 1.0), (-(2.0**-45), 1.0)):
        for sign in (1, -1):
            number = sign * (1 + step / 2 + near)
            assert to_array(read_tensor("x", [number], datatype)).tolist() == [sign * expected]
            assert cast("x", np.array([number]), datatype).tolist() == [sign * expected]


@pytest.mark.parametrize("datatype", FLOATS)
def test_numbers_that_are_too_large_are_refused(datatype: str) -> None:
    largest = float(ml_dtypes.finfo(numpy_dtype(datatype)).max)
    unit = largest - float(widened(every_value(datatype))[widened(every_value(datatype)) < largest].max())
    below = math.nextafter(largest + unit / 2, 0)
    for number in (largest, below, -below):
        assert abs(to_array(read_tensor("x", [number], datatype)).tolist()[0]) == largest
    for number in (largest + unit, -largest - unit, 1e300, 10**400):
        with pytest.raises(InvalidRequest, match=f"a number too large for {datatype}"):
            read_tensor("x", [number], datatype)
    with pytest.raises(InvalidRequest, match="a number too large"):
        cast("x", np.array([1e39], np.float64), datatype)
    for number in (math.inf, -math.inf):
        if datatype == "FP8_E4M3FN":
            with pytest.raises(InvalidRequest, match="holds infinity, which FP8_E4M3FN does not have"):
                read_tensor("x", [number], datatype)
        else:
            assert to_array(read_tensor("x", [number], datatype)).tolist() == [number]
    assert math.isnan(to_array(read_tensor("x", [math.nan], datatype)).tolist()[0])


@pytest.mark.parametrize("datatype", LACKING)
def test_arrays_of_a_wider_type_are_converted(datatype: str) -> None:
    dtype = numpy_dtype(datatype)
    for array in (np.array([0, 1, 2]), np.array([0, 1, 2], np.uint8), np.array([0, 1, 2]).astype(dtype)):
        assert cast("x", array, datatype).dtype == dtype
        assert cast("x", array, datatype).tolist() == [0, 1, 2]
    assert cast("x", np.array([0, 1]).astype(dtype), "FP32" if datatype in FLOATS else "INT64").tolist() == [0, 1]


@pytest.mark.parametrize("datatype", LACKING)
def test_npy_is_refused_by_name(datatype: str) -> None:
    array = np.zeros((1, 2), numpy_dtype(datatype))
    with pytest.raises(InvalidRequest, match=f"output 'y' is {datatype}, which npy cannot represent; ask for JSON"):
        write_npy(from_array("y", array))
    stream = io.BytesIO()
    np.save(stream, array)
    with pytest.raises(InvalidRequest, match=r"bytes without a type|not a valid npy file"):
        read_npy("x", stream.getvalue())
