"""Tensors as bytes and as numpy arrays."""

import struct
from typing import List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from runtimes.contract import DATATYPES, datatype_of, numpy_dtype

Buffer = Union[bytes, bytearray, memoryview]


class Tensor(NamedTuple):
    """A tensor as bytes: little-endian, row-major. Each BYTES element is a uint32 length followed by its bytes."""

    name: str
    datatype: str
    shape: Tuple[int, ...]
    data: Buffer


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
    data = contiguous.reshape(-1).view(np.uint8).data if contiguous.size else b""
    return Tensor(name, datatype, array.shape, data)


def pack_bytes(elements: Sequence[Union[bytes, str]]) -> bytes:
    """Return the data of a BYTES tensor; str elements are encoded as UTF-8. Raises TypeError for other types."""
    parts = []
    for element in elements:
        raw = element.encode() if isinstance(element, str) else element
        if not isinstance(raw, bytes):
            raise TypeError("an element of a BYTES tensor has type %s" % type(element).__name__)
        parts.append(struct.pack("<I", len(raw)))
        parts.append(raw)
    return b"".join(parts)


def unpack_bytes(data: Buffer, count: int) -> List[bytes]:
    """Return the elements of a BYTES tensor.

    Raises ValueError with a sentence for the client if the data does not hold exactly `count` elements.
    """
    view, position = memoryview(data), 0
    elements: List[bytes] = []
    while position < len(view):
        if position + 4 > len(view):
            raise ValueError("its data ends inside the length of string %d" % len(elements))
        (length,) = struct.unpack_from("<I", view, position)
        position += 4
        if position + length > len(view):
            raise ValueError("its data ends inside string %d" % len(elements))
        elements.append(bytes(view[position : position + length]))
        position += length
    if len(elements) != count:
        raise ValueError("its data holds %d strings, but its shape needs %d" % (len(elements), count))
    return elements
