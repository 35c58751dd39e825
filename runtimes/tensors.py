"""Tensors as bytes (tensor_bytes.py) and as numpy arrays."""

from typing import Sequence, Tuple

import numpy as np

from runtimes.contract import DATATYPES, datatype_of, numpy_dtype
from runtimes.tensor_bytes import Buffer, Tensor, pack_bytes, pack_rows, unpack_bytes

__all__ = ["Buffer", "Tensor", "from_array", "from_rows", "pack_bytes", "to_array", "unpack_bytes"]

_SMALL = 1 << 12  # bytes of an array that are copied, because that costs less than a view of them


def to_array(tensor: Tensor) -> np.ndarray:
    """Return the tensor as an array: a view of its bytes if they are aligned and not BYTES, otherwise a copy.

    Raises ValueError with a sentence for the client if the bytes do not fit datatype and shape, or if numpy lacks the
    datatype.
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
    contiguous = np.ascontiguousarray(array, dtype=numpy_dtype(datatype))
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
