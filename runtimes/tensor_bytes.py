"""Tensors as bytes. Nothing here needs numpy, which the gateway's supervisor does without."""

import struct
from itertools import accumulate
from typing import List, NamedTuple, Sequence, Tuple, Union

Buffer = Union[bytes, bytearray, memoryview]
_LENGTH = struct.Struct("<I")
_SHORT = 1 << 16


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
        parts.append(_LENGTH.pack(len(raw)))
        parts.append(raw)
    return b"".join(parts)


def pack_rows(elements: Sequence[Union[bytes, str]], rows: int) -> Tuple[bytes, List[int]]:
    """Do what `pack_bytes` does, and return the bytes before each of the rows as well, then all bytes."""
    raw = [element.encode() if isinstance(element, str) else element for element in elements]
    packed, per_row = pack_bytes(raw), len(raw) // rows
    ends = list(accumulate([4 + len(each) for each in raw]))
    return packed, [0, *ends[per_row - 1 :: per_row]] if per_row else [0] * (rows + 1)


def unpack_bytes(data: Buffer, count: int) -> List[bytes]:
    """Return the elements of a BYTES tensor.

    Raises ValueError with a sentence for the client if the data does not hold exactly `count` elements.
    """
    # Slices of bytes cost half as much as views that are then copied; long data is not copied as a whole.
    size, position = len(data), 0
    raw: Buffer = bytes(data) if size <= _SHORT else memoryview(data)
    elements: List[bytes] = []
    while position < size:
        start = position + 4
        if start > size:
            raise ValueError("its data ends inside the length of string %d" % len(elements))
        position = start + _LENGTH.unpack_from(raw, position)[0]
        if position > size:
            raise ValueError("its data ends inside string %d" % len(elements))
        elements.append(bytes(raw[start:position]))
    if len(elements) != count:
        raise ValueError("its data holds %d strings, but its shape needs %d" % (len(elements), count))
    return elements
