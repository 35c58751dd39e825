"""Concatenates, pads and splits arrays by rows. `dim` is the dimension that counts the rows.

Requests with the same layout, such as those of one client, do not need an array each: their bytes are concatenated, or
split, at a tenth of the cost. For tiny models that is most of a worker's work.
"""

from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from runtimes.contract import numpy_dtype
from runtimes.tensors import Tensor, from_array, to_array
from runtimes.wire import InferFrame, TensorLayout, layout_of
from runtimes.worker.batcher import padded_size

# Inputs of up to this many bytes are concatenated as bytes. For larger ones, making arrays is cheap compared with
# copying the bytes, and `Model.empty` may provide faster memory to copy them into.
_SMALL = 1 << 12

Arrays = Dict[str, np.ndarray]


def gather_inputs(
    frames: Sequence[InferFrame], dim: int, size: int, empty: Callable[[Any, Any], np.ndarray] = np.empty
) -> Arrays:
    """Return the inputs of all requests, concatenated and padded to `size` rows.

    Raises ValueError with a sentence for the client if the bytes of an input do not fit its shape.
    """
    layout = frames[0].layout
    if dim == 0 and len(frames) > 1 and layout is not None and _is_small(layout):
        rows = layout[2][0][2][0] * len(frames)
        if rows == size and all([frame.layout is layout for frame in frames]):
            return _gather_bytes(frames, layout, size)
    parts = [{tensor.name: to_array(tensor) for tensor in frame.inputs} for frame in frames]
    return concatenate(parts, dim, size, empty)


def _is_small(layout: TensorLayout) -> bool:
    return all([size <= _SMALL and datatype != "BYTES" for _, datatype, _, size in layout[2]])


def _gather_bytes(frames: Sequence[InferFrame], layout: TensorLayout, size: int) -> Arrays:
    arrays = {}
    for index, (name, datatype, shape, _) in enumerate(layout[2]):
        data = b"".join([frame.inputs[index].data for frame in frames])
        arrays[name] = np.frombuffer(data, numpy_dtype(datatype)).reshape((size,) + shape[1:])
    return arrays


def split_outputs(outputs: Arrays, dim: int, counts: Sequence[int]) -> List[Tuple[List[Tensor], TensorLayout]]:
    """Return the tensors of each request, which are its rows of every output, and their layout."""
    if dim or len(counts) == 1 or any([array.dtype == object for array in outputs.values()]):
        parts = [[from_array(name, array) for name, array in part.items()] for part in _split(outputs, dim, counts)]
        return [(tensors, layout_of("", (), tensors)) for tensors in parts]
    wholes = [from_array(name, array) for name, array in outputs.items()]
    sizes = [len(whole.data) // max(whole.shape[0], 1) for whole in wholes]  # bytes of one row
    layouts: Dict[int, TensorLayout] = {}
    results, start = [], 0
    for count in counts:
        stop = start + count
        tensors = [
            Tensor(whole.name, whole.datatype, (count,) + whole.shape[1:], whole.data[start * size : stop * size])
            for whole, size in zip(wholes, sizes)
        ]
        if count not in layouts:
            layouts[count] = layout_of("", (), tensors)
        results.append((tensors, layouts[count]))
        start = stop
    return results


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


def _split(arrays: Arrays, dim: int, counts: Sequence[int]) -> List[Arrays]:
    """Return the arrays in parts with these numbers of rows, in order."""
    if len(counts) == 1:
        return [arrays]
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
