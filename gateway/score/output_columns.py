"""Columns of results: outputs of a model, and what is kept of the input."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gateway.errors import InvalidRequest
from gateway.score.column_values import arrow_type, plain_type
from runtimes.contract import TensorSpec, datatype_of
from runtimes.tensors import widened


def column_type(spec: TensorSpec, leading: bool) -> pa.DataType | None:
    """Return the type of an output's column; None if the model does not say what it returns.

    A dimension of fixed size is a fixed-size list, any other one a list.

    leading  whether the first dimension counts rows
    """
    if not spec.datatype or spec.shape is None:
        return None
    return _nested(spec.datatype, spec.shape[1:] if leading else spec.shape)


def observed_type(row: "np.ndarray | str | bytes") -> pa.DataType:
    """Return the type for rows such as this one, whose sizes may differ."""
    if isinstance(row, str | bytes):
        return pa.binary()
    return _nested(datatype_of(row.dtype), (-1,) * row.ndim)


def fixed_type(datatype: str, shape: Sequence[int]) -> pa.DataType:
    """Return the type of a column whose rows all have this shape."""
    return _nested(datatype, shape)


def kept_field(field: pa.Field) -> pa.Field:
    """Return the field of the result for a column that is kept.

    Two files may have different dictionaries, which one Arrow file cannot hold; and Arrow cannot take rows of views.
    Raises InvalidRequest if it cannot take rows of the column either.
    """
    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    views = pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
    kind = plain_type(kind) if views else kind
    try:
        pa.nulls(0, field.type).cast(kind).take(pa.array([], pa.int64()))
    except pa.ArrowException:
        raise InvalidRequest(
            f"column '{field.name}' ({field.type}) cannot be kept beside rows that are bad; leave it out with --keep"
        ) from None
    return field.with_type(kind)


def _nested(datatype: str, shape: Sequence[int]) -> pa.DataType:
    kind = arrow_type(datatype)
    for size in reversed(shape):
        kind = pa.list_(kind, size if size > 0 else -1)
    return kind


def to_column(rows: "np.ndarray | list[np.ndarray]", kind: pa.DataType) -> pa.Array:
    """Return a column of the rows: an array whose first dimension counts them, or a list of arrays."""
    if isinstance(rows, np.ndarray) and _is_regular(rows.shape[1:], kind):
        return _wrap(_leaves(widened(rows).reshape(-1)), rows.shape, kind)
    return pa.array([_values(row) for row in rows], kind)


def _is_regular(shape: Sequence[int], kind: pa.DataType) -> bool:
    for size in shape:
        if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
            return False
        if pa.types.is_fixed_size_list(kind) and kind.list_size != size:
            return False
        kind = kind.value_type
    return not pa.types.is_nested(kind)


def _leaves(flat: np.ndarray) -> pa.Array:
    return pa.array(flat.tolist(), pa.binary()) if flat.dtype == object else pa.array(flat)


def _wrap(values: pa.Array, shape: Sequence[int], kind: pa.DataType) -> pa.Array:
    """Put the values of an array of this shape into lists, from the inside out."""
    kinds = [kind]
    for _ in shape[1:]:
        kinds.append(kinds[-1].value_type)
    for axis in reversed(range(1, len(shape))):
        size, count = shape[axis], int(np.prod(shape[:axis]))
        if pa.types.is_fixed_size_list(kinds[axis - 1]):
            values = pa.FixedSizeListArray.from_arrays(values, type=kinds[axis - 1])
        else:
            offsets = pa.array(np.arange(count + 1, dtype=np.int32) * size)
            values = pa.ListArray.from_arrays(offsets, values, type=kinds[axis - 1])
    return values


def _values(row: np.ndarray) -> Any:
    return row.tolist()
