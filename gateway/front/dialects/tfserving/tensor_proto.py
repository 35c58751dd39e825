"""Converts between tensorflow.TensorProto and Tensor."""

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np

from gateway.codecs.json_tensors import raw_tensor
from gateway.codecs.protobuf_fields import field, typed_array
from gateway.domain.tensor_checks import check_shape, check_strings
from gateway.errors import InvalidRequest, TooLarge
from gateway.generated import tensorflow_pb2 as tf
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.tensors import Buffer, Tensor, pack_bytes, unpack_bytes

_CONTENT: Final = 4 << 3 | 2  # the key of TensorProto.tensor_content


class _Type(NamedTuple):
    """A supported dtype: our datatype, and the field for its single elements."""

    datatype: str
    field: str


_TYPES = {
    tf.DT_BOOL: _Type("BOOL", "bool_val"),
    tf.DT_UINT8: _Type("UINT8", "int_val"),
    tf.DT_UINT16: _Type("UINT16", "int_val"),
    tf.DT_UINT32: _Type("UINT32", "uint32_val"),
    tf.DT_UINT64: _Type("UINT64", "uint64_val"),
    tf.DT_INT8: _Type("INT8", "int_val"),
    tf.DT_INT16: _Type("INT16", "int_val"),
    tf.DT_INT32: _Type("INT32", "int_val"),
    tf.DT_INT64: _Type("INT64", "int64_val"),
    tf.DT_HALF: _Type("FP16", "half_val"),
    tf.DT_FLOAT: _Type("FP32", "float_val"),
    tf.DT_DOUBLE: _Type("FP64", "double_val"),
    tf.DT_STRING: _Type("BYTES", "string_val"),
    tf.DT_BFLOAT16: _Type("BF16", "half_val"),
    tf.DT_FLOAT8_E4M3FN: _Type("FP8_E4M3FN", "float8_val"),
    tf.DT_FLOAT8_E5M2: _Type("FP8_E5M2", "float8_val"),
    tf.DT_INT4: _Type("INT4", "int_val"),
    tf.DT_UINT4: _Type("UINT4", "int_val"),
}
# "" is a datatype that is not known yet.
DTYPES = {"": tf.DT_INVALID, **{each.datatype: dtype for dtype, each in _TYPES.items()}}


def read_tensor_proto(name: str, proto: tf.TensorProto, max_bytes: int) -> Tensor:
    """Convert a tensor. Its size is checked against `max_bytes` before it is allocated.

    The engine checks later that tensor_content fits the shape. Raises InvalidRequest, TooLarge.
    """
    kind = _TYPES.get(proto.dtype)
    if kind is None:
        raise InvalidRequest(
            f"input '{name}' has dtype {_dtype_name(proto.dtype)}, which is not supported; {_supported()}"
        )
    shape = _shape(name, proto.tensor_shape)
    values = getattr(proto, kind.field)
    content = proto.tensor_content
    if not content:
        return Tensor(name, kind.datatype, shape, _data(name, kind, shape, values, max_bytes))
    if values:
        raise InvalidRequest(f"input '{name}' has both tensor_content and {kind.field}; send one of them")
    if kind.datatype == "BYTES":
        raise InvalidRequest(f"input '{name}' has dtype DT_STRING and tensor_content; fill string_val")
    return raw_tensor(name, kind.datatype, shape, content)


def _dtype_name(dtype: int) -> str:
    return tf.DataType.Name(dtype) if dtype in tf.DataType.values() else f"{dtype} (unknown)"


def _supported() -> str:
    return "supported are " + ", ".join(tf.DataType.Name(dtype) for dtype in _TYPES)


def _shape(name: str, proto: tf.TensorShapeProto) -> tuple[int, ...]:
    if proto.unknown_rank:
        raise InvalidRequest(f"input '{name}' has a shape of unknown rank; send the size of each dimension")
    dimensions = proto.dim
    check_shape(name, range(len(dimensions)))  # the rank first, because there may be millions of dimensions
    shape = tuple([dimension.size for dimension in dimensions])
    check_shape(name, shape)
    return shape


def _data(name: str, kind: _Type, shape: Sequence[int], values: Sequence[Any], max_bytes: int) -> Buffer:
    """Convert the elements. If there are fewer than the shape has, the last one is repeated, as in TensorFlow."""
    count, given = prod(shape), len(values)
    if given > count or (count and not given):
        raise InvalidRequest(
            f"input '{name}' has {given} values in {kind.field}, but shape {list(shape)} has {count}; "
            "send all of them, or one for all"
        )
    if not count:
        return b""
    if kind.datatype == "BYTES":
        return _strings(name, values, count, max_bytes)
    _check_size(name, count * DATATYPES[kind.datatype].itemsize, max_bytes)
    if kind.field == "half_val":
        array = typed_array(name, "UINT16", values, np.dtype(np.int32))  # the bits of FP16 or BF16
    elif kind.field == "float8_val":
        array = np.frombuffer(values, np.uint8)  # type: ignore[call-overload]  # one string, with a byte for each
    else:
        own = np.dtype(np.int32) if kind.field == "int_val" else numpy_dtype(kind.datatype)
        array = typed_array(name, kind.datatype, values, own)
    if given < count:
        filled = np.empty(count, array.dtype)
        filled[:given], filled[given:] = array, array[-1]
        array = filled
    return array.view(np.uint8).data


def _strings(name: str, values: Sequence[bytes], count: int, max_bytes: int) -> bytes:
    check_strings(name, count)
    packed = pack_bytes(values)
    if len(values) == count:
        return packed
    last = pack_bytes(values[-1:])
    _check_size(name, len(packed) + len(last) * (count - len(values)), max_bytes)
    return packed + last * (count - len(values))


def _check_size(name: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise TooLarge(f"input '{name}' expands to {size} bytes, and {max_bytes} are left of the limit for a request")


def write_tensor_proto(tensor: Tensor) -> list[Buffer]:
    """Write a TensorProto in parts: numbers as tensor_content, strings as string_val."""
    head = _head(tensor.datatype, tensor.shape)
    if tensor.datatype == "BYTES":
        strings = unpack_bytes(tensor.data, prod(tensor.shape))
        return [head, tf.TensorProto(string_val=strings).SerializeToString()]
    return [head, *field(_CONTENT, tensor.data)]


# These fields are the same in most answers, so their bytes are cached. Concatenated protobuf messages merge into one
# (protobuf encoding guide, "Last One Wins").
@lru_cache(1024)
def _head(datatype: str, shape: tuple[int, ...]) -> bytes:
    raw: bytes = tf.TensorProto(dtype=DTYPES[datatype], tensor_shape=shape_proto(shape)).SerializeToString()
    return raw


def shape_proto(shape: Sequence[int] | None) -> tf.TensorShapeProto:
    """Convert a shape: -1 for a dimension of any size, None for unknown rank."""
    if shape is None:
        return tf.TensorShapeProto(unknown_rank=True)
    return tf.TensorShapeProto(dim=[tf.TensorShapeProto.Dim(size=size) for size in shape])
