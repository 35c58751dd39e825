"""Concatenates, pads and splits arrays by rows. `dim` is the dimension that counts the rows.

Small requests do not need an array each. In a frame, the bytes of those with the same layout are contiguous already,
so that the inputs of a batch are views of it.
"""

from itertools import accumulate
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES, has_dtype, numpy_dtype
from runtimes.layouts import TensorLayout, with_rows
from runtimes.tensors import Buffer, Tensor, to_array
from runtimes.worker.batcher import padded_size
from runtimes.worker.pending import Batch, PendingGroup

# Inputs of up to this many bytes are concatenated as bytes. For larger ones, making arrays is cheap compared with
# copying the bytes, and `Model.empty` may provide faster memory to copy them into.
_SMALL = 1 << 12

# Layouts that are known to fit or not: as many as the wire caches.
_MAX_LAYOUTS = 1024

Arrays = Dict[str, np.ndarray]
_known_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[TensorLayout, bool]


def gather_inputs(batch: Batch, size: int, dim: int, empty: Callable[[Any, Any], np.ndarray] = np.empty) -> Arrays:
    """Return the inputs of all requests of a batch, concatenated and padded to `size` rows.

    If rows are not counted, size is 0 and there is one request.

    Raises ValueError with a sentence for the client if the bytes of an input do not fit its shape.
    """
    if dim == 0 or len(batch.ids) == 1:
        joined = _join(batch)
        if joined is not None:
            return joined if batch.rows == size else concatenate([joined], dim, size, empty)
    parts = [{tensor.name: to_array(tensor) for tensor in pending.frame.inputs} for pending in batch]
    return concatenate(parts, dim, size, empty) if size else parts[0]


def _join(batch: Batch) -> Optional[Arrays]:
    """Return the inputs of all requests, joined in the first dimension without an array per request.

    Return None if they are large or differ in their order, or if one does not fit its shape.
    """
    groups, count = batch.groups, len(batch.ids)
    group, inputs = groups[0], groups[0].requests.inputs
    layout = inputs.layout
    if not sizes_fit(layout):
        return None
    if len(groups) > 1:
        for other in [each.requests.inputs.layout for each in groups]:
            if other is not layout and (not sizes_fit(other) or _names(other) != _names(layout)):
                return None
    rows = batch.rows or inputs.rows[group.start]  # the latter of a request that runs as it is
    arrays: Arrays = {}
    for tensor, (name, datatype, shape, _) in enumerate(layout[2]):
        data: Buffer = inputs.data(tensor, group.start, group.stop)
        if len(groups) > 1:
            data = b"".join([each.requests.inputs.data(tensor, each.start, each.stop) for each in groups])
        if count > 1:
            if len(data) > _SMALL * count:
                return None
            shape = (rows,) + shape[1:]
        elif inputs.by_row:
            shape = with_rows(shape, rows)
        if datatype == "BYTES":
            arrays[name] = to_array(Tensor(name, datatype, shape, data))
            if count > 1 and not _end_together(groups, tensor, arrays[name].ravel().tolist(), rows):
                return None
        else:
            arrays[name] = np.frombuffer(data, numpy_dtype(datatype)).reshape(shape)
    return arrays


def _end_together(groups: Sequence[PendingGroup], tensor: int, strings: List[bytes], rows: int) -> bool:
    """Return whether the strings of each request end where its bytes do.

    If one request had too few, and another too many, they would get each other's strings. Fronts let neither pass.
    """
    ends = [0, *accumulate([4 + len(each) for each in strings])]
    per_row = len(strings) // rows
    row = before = 0
    for group in groups:
        bounds = group.requests.inputs.bounds[tensor]
        first = bounds[group.start]
        for count, bound in zip(group.each_rows, bounds[group.start + 1 : group.stop + 1]):
            row += count
            if ends[row * per_row] != before + bound - first:
                return False
        before += bounds[group.stop] - first
    return True


def _names(layout: TensorLayout) -> List[str]:
    return [name for name, _, _, _ in layout[2]]


def sizes_fit(layout: TensorLayout) -> bool:
    """Return whether the sizes of all numbers fit their shapes, and arrays can have their datatypes."""
    found = _known_layouts.entries.get(layout)
    if found is None:
        found = True
        for _, datatype, shape, size in layout[2]:
            count = DATATYPES[datatype].itemsize
            for each in with_rows(shape, 1):
                count *= each
            found = found and (datatype == "BYTES" or (size == count and has_dtype(datatype)))
        if type(layout) is not tuple:  # the others are too long to be cached
            _known_layouts.put(layout, found)
    return found


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
