"""Conversion of TensorProto, both ways: every datatype, every field, and rejected tensors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gateway.domain.tensor_checks import MAX_RANK, MAX_STRINGS
from gateway.errors import InvalidRequest, TooLarge
from gateway.front.dialects.tfserving.tensor_proto import _TYPES, DTYPES, read_tensor_proto, write_tensor_proto
from gateway.generated import tensorflow_pb2 as tf
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.tensors import Tensor, from_array, to_array, widened
from tests.unit.front.test_round_trips import every_value

MOST = 1 << 20
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def arrays(datatype: str) -> st.SearchStrategy[np.ndarray]:
    if datatype == "BYTES":
        return npst.arrays(object, SHAPES, elements=st.binary(max_size=8), fill=st.just(b""))
    if DATATYPES[datatype].typestr is None:
        every = every_value(datatype)
        return npst.arrays(np.uint16, SHAPES, elements=st.integers(0, len(every) - 1)).map(every.__getitem__)
    return npst.arrays(numpy_dtype(datatype), SHAPES)


def proto(dtype: int, shape: tuple[int, ...], **fields: Any) -> tf.TensorProto:
    dims = [tf.TensorShapeProto.Dim(size=size) for size in shape]
    return tf.TensorProto(dtype=dtype, tensor_shape=tf.TensorShapeProto(dim=dims), **fields)


def read(given: tf.TensorProto, most: int = MOST) -> Tensor:
    return read_tensor_proto("x", tf.TensorProto.FromString(given.SerializeToString()), most)


def same(tensor: Tensor, array: np.ndarray) -> None:
    found = to_array(tensor)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    if array.dtype == object:
        assert found.tolist() == array.tolist()
    else:
        np.testing.assert_array_equal(widened(found), widened(array))


@pytest.mark.parametrize("datatype", DATATYPES)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_what_is_written_is_read(datatype: str, data: st.DataObject) -> None:
    array = data.draw(arrays(datatype))
    written = b"".join(write_tensor_proto(from_array("x", array)))
    message = tf.TensorProto.FromString(written)
    assert message.dtype == DTYPES[datatype]
    assert [dim.size for dim in message.tensor_shape.dim] == list(array.shape)
    same(read(message), array)


@pytest.mark.parametrize("datatype", DATATYPES)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_values_one_by_one_are_read(datatype: str, data: st.DataObject) -> None:
    array = data.draw(arrays(datatype))
    field = _TYPES[DTYPES[datatype]].field
    values = array.view(np.uint16).ravel().tolist() if field == "half_val" else array.ravel().tolist()
    if field == "float8_val":
        values = array.tobytes()
    same(read(proto(DTYPES[datatype], array.shape, **{field: values})), array)


@pytest.mark.parametrize("dtype", _TYPES)
def test_the_last_value_stands_for_all_that_follow(dtype: int) -> None:
    kind = _TYPES[dtype]
    first: Any = [b"a", b"bc"] if kind.datatype == "BYTES" else [1, 0]
    if kind.field == "float8_val":
        first = b"\1\0"
    for some, expected in ((first[:1], first[:1] * 6), (first, first + first[1:] * 4)):
        tensor = read(proto(dtype, (2, 3), **{kind.field: some}))
        found = to_array(tensor)
        if kind.field == "half_val":
            found = found.view(np.uint16)
        if kind.field == "float8_val":
            found = found.view(np.uint8)
        assert found.ravel().tolist() == list(expected)


@pytest.mark.parametrize("dtype", _TYPES)
def test_a_scalar_has_no_dimension(dtype: int) -> None:
    kind = _TYPES[dtype]
    values: Any = b"x" if kind.field == "float8_val" else [b"x" if kind.datatype == "BYTES" else 1]
    assert read(proto(dtype, (), **{kind.field: values})).shape == ()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            proto(tf.DT_QINT8, (1,), int_val=[1]),
            "dtype DT_QINT8, which is not supported; supported are DT_BOOL, ",
        ),
        (proto(tf.DT_INT4, (1,), int_val=[8]), "holds 8, out of the range of INT4: -8 to 7"),
        (proto(tf.DT_UINT4, (1,), tensor_content=b"\x10"), "holds 16, out of the range of UINT4: 0 to 15"),
        (proto(tf.DT_BFLOAT16, (1,), half_val=[1 << 16]), "holds 65536, out of the range"),
        (proto(tf.DT_FLOAT8_E5M2, (2,), float8_val=b"123"), "has 3 values in float8_val"),
        (proto(tf.DT_COMPLEX64, (1,)), "dtype DT_COMPLEX64, which is not supported"),
        (proto(tf.DT_INVALID, (1,)), "dtype DT_INVALID, which is not supported"),
        (proto(77, (1,)), r"dtype 77 \(unknown\), which is not supported"),
        (tf.TensorProto(dtype=tf.DT_FLOAT, tensor_shape=tf.TensorShapeProto(unknown_rank=True)), "unknown rank"),
        (proto(tf.DT_FLOAT, (-1, 2), float_val=[1]), r"shape \[-1, 2\]; no dimension can be negative"),
        (proto(tf.DT_FLOAT, (1,) * (MAX_RANK + 1), float_val=[1]), f"{MAX_RANK + 1} dimensions"),
        (proto(tf.DT_FLOAT, (2,)), r"has 0 values in float_val, but shape \[2\] has 2"),
        (proto(tf.DT_FLOAT, (2,), double_val=[1, 2]), "has 0 values in float_val"),
        (proto(tf.DT_FLOAT, (2,), float_val=[1, 2, 3]), "has 3 values in float_val"),
        (proto(tf.DT_FLOAT, (0,), float_val=[1]), "has 1 values in float_val"),
        (proto(tf.DT_FLOAT, (1,), float_val=[1], tensor_content=b"\0" * 4), "both tensor_content and float_val"),
        (proto(tf.DT_STRING, (1,), tensor_content=b"\1a"), "fill string_val"),
        (proto(tf.DT_BOOL, (1,), tensor_content=b"\2"), "its bytes must be 0 or 1"),
        (proto(tf.DT_INT8, (1,), int_val=[128]), "holds 128, out of the range of INT8: -128 to 127"),
        (proto(tf.DT_UINT8, (1,), int_val=[-1]), "holds -1, out of the range of UINT8: 0 to 255"),
        (proto(tf.DT_UINT16, (1,), int_val=[1 << 16]), "holds 65536, out of the range of UINT16"),
        (proto(tf.DT_HALF, (1,), half_val=[1 << 16]), "holds 65536, out of the range"),
        (proto(tf.DT_STRING, (MAX_STRINGS + 1,), string_val=[b""]), f"{MAX_STRINGS + 1} strings"),
    ],
)
def test_what_does_not_fit_is_rejected(given: tf.TensorProto, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        read(given)


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 62, 1 << 62), (MOST // 4 + 1,)])
def test_one_value_for_a_huge_shape_allocates_nothing(shape: tuple[int, ...]) -> None:
    with pytest.raises(TooLarge, match=f"and {MOST} are left of the limit"):
        read(proto(tf.DT_FLOAT, shape, float_val=[1]))


def test_a_repeated_string_is_limited_by_its_total_size() -> None:
    long = proto(tf.DT_STRING, (1000,), string_val=[b"x" * 2000])
    with pytest.raises(TooLarge, match="expands to 2004000 bytes"):
        read(long)
    assert read(proto(tf.DT_STRING, (1000,), string_val=[b"x" * 1000])).shape == (1000,)
