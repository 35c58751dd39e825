"""Tensors as bytes (tensor_bytes.py) and as numpy arrays."""

from typing import Sequence, Tuple

import numpy as np

from runtimes.contract import DATATYPES, NARROW_RANGES, datatype_of, kind_of, numpy_dtype
from runtimes.tensor_bytes import Buffer, Tensor, pack_bytes, pack_rows, unpack_bytes

__all__ = [
    "Buffer",
    "Tensor",
    "from_array",
    "from_rows",
    "integer_range",
    "pack_bytes",
    "to_array",
    "unpack_bytes",
    "wide_dtype",
    "widened",
]

_SMALL = 1 << 12  # bytes of an array that are copied, because that costs less than a view of them


def to_array(tensor: Tensor) -> np.ndarray:
    """Return the tensor as an array: a view of its bytes if they are aligned and not BYTES, otherwise a copy.

    Raises ValueError with a sentence for the client if the bytes do not fit datatype and shape, or if the datatype
    needs ml_dtypes, and that is not installed.
    """
    _, datatype, shape, data = tensor
    count = 1
    for size in shape:
        count *= size
    if datatype == "BYTES":
        flat = np.empty(count, dtype=object)
        flat[:] = unpack_bytes(data, count)
        return flat.reshape(shape)
    size = count * DATATYPES[datatype].itemsize
    if len(data) != size:
        raise ValueError("its data has %d bytes, but %s%s needs %d" % (len(data), datatype, list(shape), size))
    array = np.frombuffer(data, dtype=numpy_dtype(datatype)).reshape(shape)
    return array if array.flags.aligned else array.copy()


def from_array(name: str, array: np.ndarray) -> Tensor:
    """Return the array as a tensor. Raises KeyError for a dtype that the protocol lacks."""
    datatype = datatype_of(array.dtype)
    if datatype == "BYTES":
        return Tensor(name, datatype, array.shape, pack_bytes(array.ravel().tolist()))
    if datatype in NARROW_RANGES:
        array = widened(array)  # ml_dtypes does not extend the sign of INT4 to the whole byte
    contiguous = np.ascontiguousarray(array, dtype=None if datatype in NARROW_RANGES else numpy_dtype(datatype))
    if contiguous.nbytes <= _SMALL:
        return Tensor(name, datatype, array.shape, contiguous.tobytes())
    return Tensor(name, datatype, array.shape, contiguous.reshape(-1).view(np.uint8).data)


def from_rows(name: str, array: np.ndarray, rows: int) -> Tuple[Tensor, Sequence[int]]:
    """Return the array as a tensor, with the bytes before each of the rows of its first dimension, then all bytes."""
    if array.dtype.kind in "OSU":
        data, offsets = pack_rows(array.ravel().tolist(), rows)
        return Tensor(name, datatype_of(array.dtype), array.shape, data), offsets
    tensor = from_array(name, array)
    size = len(tensor.data)
    return tensor, range(0, size + 1, size // rows) if size else [0] * (rows + 1)


def widened(array: np.ndarray) -> np.ndarray:
    """Return the array with a dtype of numpy that has all of its values: FP32 for BF16 and FP8, INT8 for INT4.

    Arrays whose dtype is one of numpy's are returned as they are. Most of numpy knows nothing about the others: their
    `dtype.kind` is "V", and JSON, tables and sorting refuse them.
    """
    if array.dtype.isbuiltin != 2:  # registered by an extension of numpy
        return array
    return array.astype(wide_dtype(datatype_of(array.dtype)))


def wide_dtype(datatype: str) -> np.dtype:
    """Return the dtype of `widened` arrays."""
    if DATATYPES[datatype].typestr is not None:
        return numpy_dtype(datatype)
    return np.dtype({"float": np.float32, "int": np.int8, "uint": np.uint8}[kind_of(datatype)])


def integer_range(datatype: str) -> Tuple[int, int]:
    """Return the smallest and the largest number of a datatype of integers."""
    if datatype in NARROW_RANGES:
        return NARROW_RANGES[datatype]
    limits = np.iinfo(numpy_dtype(datatype))
    return int(limits.min), int(limits.max)
