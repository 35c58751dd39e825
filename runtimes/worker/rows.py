"""Concatenates, pads and splits arrays by rows. `dim` is the dimension that counts the rows.

Requests with the same layout, such as those of one client, do not need an array each. In a frame, their bytes are
contiguous already, so that the inputs of a batch are views of it.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES, numpy_dtype
from runtimes.layouts import TensorLayout
from runtimes.tensors import to_array
from runtimes.worker.batcher import padded_size
from runtimes.worker.pending import Batch, PendingGroup

# Inputs of up to this many bytes are concatenated as bytes. For larger ones, making arrays is cheap compared with
# copying the bytes, and `Model.empty` may provide faster memory to copy them into.
_SMALL = 1 << 12

# Layouts of inputs whose sizes are cached: as many as the wire caches.
_MAX_LAYOUTS = 1024

Arrays = Dict[str, np.ndarray]
_numeric_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[TensorLayout, int]


def gather_inputs(batch: Batch, size: int, dim: int, empty: Callable[[Any, Any], np.ndarray] = np.empty) -> Arrays:
    """Return the inputs of all requests of a batch, concatenated and padded to `size` rows.

    If rows are not counted, size is 0 and there is one request.

    Raises ValueError with a sentence for the client if the bytes of an input do not fit its shape.
    """
    groups, is_single = batch.groups, len(batch.ids) == 1
    if batch.rows == size and (is_single or dim == 0):
        layout = groups[0].requests.inputs.layout
        largest = _numeric_layouts.entries.get(layout)
        if largest is None:
            largest = _numeric_bytes(layout)
        if len(groups) == 1 and 0 <= largest and (is_single or largest <= _SMALL):
            return _views(groups[0])
        arrays = _join(groups, size) if len(groups) > 1 else None
        if arrays is not None:
            return arrays
    parts = [{tensor.name: to_array(tensor) for tensor in pending.frame.inputs} for pending in batch]
    return concatenate(parts, dim, size, empty) if size else parts[0]


def _numeric_bytes(layout: TensorLayout) -> int:
    """Return the bytes of the largest tensor; -1 if one contains strings, or has a size that does not fit its shape."""
    largest = _numeric_layouts.entries.get(layout)
    if largest is None:
        largest = 0
        for _, datatype, shape, size in layout[2]:
            count, typestr = DATATYPES[datatype].itemsize, DATATYPES[datatype].typestr
            for each in shape:
                count *= each
            is_numeric = size == count and typestr is not None and datatype != "BYTES"
            largest = max(largest, size) if is_numeric and largest >= 0 else -1
        if type(layout) is not tuple:  # the others are too long to be cached
            _numeric_layouts.put(layout, largest)
    return largest


def _views(group: PendingGroup) -> Arrays:
    """Return the tensors of a group as views of its frame that join them in the first dimension."""
    inputs, start, count = group.requests.inputs, group.start, group.stop - group.start
    arrays = {}
    for (name, datatype, shape, size), position in zip(inputs.layout[2], inputs.starts):
        if count > 1:
            shape = (shape[0] * count,) + shape[1:]
        position += start * size
        data = inputs.body[position : position + count * size]
        arrays[name] = np.frombuffer(data, numpy_dtype(datatype)).reshape(shape)
    return arrays


def _join(groups: Sequence[PendingGroup], size: int) -> Optional[Arrays]:
    """Return the tensors of all groups; None if some are large or contain strings, or differ in their order."""
    first = layout = groups[0].requests.inputs.layout
    names = [name for name, _, _, _ in first[2]]
    if not 0 <= _numeric_bytes(first) <= _SMALL:
        return None
    for group in groups:
        if group.requests.inputs.layout is layout:
            continue
        layout = group.requests.inputs.layout
        if not 0 <= _numeric_bytes(layout) <= _SMALL or [name for name, _, _, _ in layout[2]] != names:
            return None
    arrays = {}
    for tensor, (name, datatype, shape, _) in enumerate(first[2]):
        data = b"".join([group.requests.inputs.data(tensor, group.start, group.stop) for group in groups])
        arrays[name] = np.frombuffer(data, numpy_dtype(datatype)).reshape((size,) + shape[1:])
    return arrays


def concatenate(
    parts: Sequence[Arrays], dim: int, size: int, empty: Callable[[Any, Any], np.ndarray] = np.empty
) -> Arrays:
    """Return the concatenated parts, padded to `size` rows, in arrays that `empty` allocates.

    The padding consists of copies of the last row, so that the model only sees values of real requests. A single part
    that needs no padding is returned as it is, without a copy.
    """
    return {name: _concatenate([part[name] for part in parts], dim, size, empty) for name in parts[0]}


def _concatenate(arrays: List[np.ndarray], dim: int, size: int, empty: Callable[[Any, Any], np.ndarray]) -> np.ndarray:
    missing = size - sum([array.shape[dim] for array in arrays])
    if len(arrays) == 1 and not missing:
        return arrays[0]
    last, shape = arrays[-1], arrays[0].shape
    if missing:
        arrays = arrays + [_slice(last, dim, last.shape[dim] - 1, last.shape[dim])] * missing
    make = np.empty if last.dtype == object else empty
    return np.concatenate(arrays, axis=dim, out=make(shape[:dim] + (size,) + shape[dim + 1 :], last.dtype))


def slice_rows(arrays: Arrays, dim: int, start: int, stop: int) -> Arrays:
    """Return the rows from `start` to `stop`, as views."""
    return {name: _slice(array, dim, start, stop) for name, array in arrays.items()}


def split(arrays: Arrays, dim: int, counts: Sequence[int]) -> List[Arrays]:
    """Return the arrays in parts with these numbers of rows, in order."""
    parts, start = [], 0
    for count in counts:
        parts.append(slice_rows(arrays, dim, start, start + count))
        start += count
    return parts


def _slice(array: np.ndarray, dim: int, start: int, stop: int) -> np.ndarray:
    return array[(slice(None),) * dim + (slice(start, stop),)]


def next_smaller(rows: int, sizes: Sequence[int]) -> int:
    """Return how many rows to try if `rows` were too many: half, or the next smaller declared size; else 0."""
    if not sizes:
        return (rows + 1) // 2 if rows > 1 else 0
    return max([size for size in sizes if size < padded_size(rows, sizes)], default=0)
