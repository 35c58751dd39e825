"""Reads and writes protobuf fields that contain tensors, without message objects."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gateway.errors import InvalidRequest
from runtimes.contract import numpy_dtype
from runtimes.tensors import Buffer, integer_range


def field(tag: int, data: Buffer) -> tuple[bytes, Buffer]:
    """Return a length-delimited field in parts. `tag` is the field's key in the wire format, of one byte."""
    return field_head(tag, len(data)), data


def field_head(tag: int, size: int) -> bytes:
    """Return the tag and the length of such a field."""
    written = bytearray([tag])
    while size > 0x7F:
        written.append(size & 0x7F | 0x80)
        size >>= 7
    written.append(size)
    return bytes(written)


def typed_array(name: str, datatype: str, values: Sequence[Any], own: np.dtype) -> np.ndarray:
    """Convert the elements of a protobuf field to an array.

    `own` is the dtype of the field's type, which may be wider than that of `datatype`: protobuf has no INT8, for one.
    Raises InvalidRequest if an element is out of range.
    """
    dtype = numpy_dtype(datatype)
    # With the field's own dtype, the protobuf runtime passes the whole field to numpy at once.
    array = np.array(values, dtype=own)
    if array.dtype != dtype:
        low, high, (least, most) = array.min(), array.max(), integer_range(datatype)
        if low < least or high > most:
            culprit = low if low < least else high
            raise InvalidRequest(
                f"the data of input '{name}' holds {culprit}, out of the range of {datatype}: {least} to {most}"
            )
        array = array.astype(dtype)
    return array
