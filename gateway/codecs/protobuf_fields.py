"""Protobuf's wire format where tensors lie in it: fields written and read without messages."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gateway.errors import InvalidRequest
from runtimes.contract import numpy_dtype
from runtimes.tensors import Buffer


def field(tag: int, data: Buffer) -> tuple[bytes, Buffer]:
    """The parts of a message that are this field of it, whose tag has one byte and tells that a length follows."""
    return field_head(tag, len(data)), data


def field_head(tag: int, size: int) -> bytes:
    """What stands before the `size` bytes of such a field."""
    written = bytearray([tag])
    while size > 0x7F:
        written.append(size & 0x7F | 0x80)
        size >>= 7
    written.append(size)
    return bytes(written)


def typed_array(name: str, datatype: str, values: Sequence[Any], own: np.dtype) -> np.ndarray:
    """The elements of a protobuf field, whose own dtype may be wider than the datatype. Raises InvalidRequest."""
    dtype = numpy_dtype(datatype)
    # The protobuf runtime hands numpy the whole field at once where the dtype is the field's own.
    array = np.array(values, dtype=own)
    if array.dtype != dtype:
        low, high, limits = array.min(), array.max(), np.iinfo(dtype)
        if low < limits.min or high > limits.max:
            culprit = low if low < limits.min else high
            raise InvalidRequest(
                f"the data of input '{name}' holds {culprit}, out of the range of {datatype}: "
                f"{limits.min} to {limits.max}"
            )
        array = array.astype(dtype)
    return array
