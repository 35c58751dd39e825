"""Tensors as bytes. Nothing here needs numpy, which the gateway's supervisor does without."""

import struct
from typing import List, NamedTuple, Sequence, Tuple, Union

Buffer = Union[bytes, bytearray, memoryview]


class Tensor(NamedTuple):
    """A tensor as bytes: little-endian, row-major. Each BYTES element is a uint32 length followed by its bytes."""

    name: str
    datatype: str
    shape: Tuple[int, ...]
    data: Buffer


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
