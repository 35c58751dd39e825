"""Arrays by rows: put together, filled up, cut apart. `dim` is the dimension that counts them.

Requests that are all of one form, as those of one client are, need no array each: their bytes are
put together, or cut apart, at a tenth of the cost. For tiny models that is most of a worker's work.
"""

from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from runtimes.contract import numpy_dtype
from runtimes.tensors import Tensor, from_array, to_array
from runtimes.wire import InferFrame, TensorLayout, layout_of
from runtimes.worker.batcher import padded_size

# Above this the arrays cost nothing beside their bytes, and the model may want these in memory of its own.
_SMALL = 1 << 12

Arrays = Dict[str, np.ndarray]


def gathered(
    frames: Sequence[InferFrame], dim: int, size: int, empty: Callable[[Any, Any], np.ndarray] = np.empty
) -> Arrays:
    """The inputs of all these requests together, filled up to `size` rows. Raises ValueError, as a sentence."""
    layout = frames[0].layout
    if dim == 0 and len(frames) > 1 and layout is not None and _is_small(layout):
        rows = layout[2][0][2][0] * len(frames)
        if rows == size and all([frame.layout is layout for frame in frames]):
            return _gathered_bytes(frames, layout, size)
    parts = [{tensor.name: to_array(tensor) for tensor in frame.inputs} for frame in frames]
    return joined(parts, dim, size, empty)


def _is_small(layout: TensorLayout) -> bool:
    return all([size <= _SMALL and datatype != "BYTES" for _, datatype, _, size in layout[2]])


def _gathered_bytes(frames: Sequence[InferFrame], layout: TensorLayout, size: int) -> Arrays:
    arrays = {}
    for index, (name, datatype, shape, _) in enumerate(layout[2]):
        data = b"".join([frame.inputs[index].data for frame in frames])
        arrays[name] = np.frombuffer(data, numpy_dtype(datatype)).reshape((size,) + shape[1:])
    return arrays


def answers(outputs: Arrays, dim: int, counts: Sequence[int]) -> List[Tuple[List[Tensor], TensorLayout]]:
    """What each request gets: its rows of every output, and the form of that."""
    if dim or len(counts) == 1 or any([array.dtype == object for array in outputs.values()]):
        found = [[from_array(name, array) for name, array in part.items()] for part in split(outputs, dim, counts)]
        return [(tensors, layout_of("", (), tensors)) for tensors in found]
    wholes = [from_array(name, array) for name, array in outputs.items()]
    sizes = [len(whole.data) // max(whole.shape[0], 1) for whole in wholes]
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


def joined(parts: Sequence[Arrays], dim: int, size: int, empty: Callable[[Any, Any], np.ndarray] = np.empty) -> Arrays:
    """The parts one after the other, in arrays that `empty` makes, filled up to `size` rows.

    What fills up are copies of the last row: real values, so that no model meets numbers it never saw.
    A lone part that needs nothing is given as it is, without a copy.
    """
    return {name: _joined([part[name] for part in parts], dim, size, empty) for name in parts[0]}


def _joined(arrays: List[np.ndarray], dim: int, size: int, empty: Callable[[Any, Any], np.ndarray]) -> np.ndarray:
    missing = size - sum([array.shape[dim] for array in arrays])
    if len(arrays) == 1 and not missing:
        return arrays[0]
    last, shape = arrays[-1], arrays[0].shape
    if missing:
        arrays = arrays + [rows_of(last, dim, last.shape[dim] - 1, last.shape[dim])] * missing
    make = np.empty if last.dtype == object else empty
    return np.concatenate(arrays, axis=dim, out=make(shape[:dim] + (size,) + shape[dim + 1 :], last.dtype))


def cut(arrays: Arrays, dim: int, start: int, stop: int) -> Arrays:
    """Some of the rows, as views."""
    return {name: rows_of(array, dim, start, stop) for name, array in arrays.items()}


def split(arrays: Arrays, dim: int, counts: Sequence[int]) -> List[Arrays]:
    """One part for each count of rows, in order."""
    if len(counts) == 1:
        return [arrays]
    parts, start = [], 0
    for count in counts:
        parts.append(cut(arrays, dim, start, start + count))
        start += count
    return parts


def rows_of(array: np.ndarray, dim: int, start: int, stop: int) -> np.ndarray:
    return array[(slice(None),) * dim + (slice(start, stop),)]


def smaller(rows: int, sizes: Sequence[int]) -> int:
    """What to try when so many rows were too many: half of them, or the next smaller declared size, else 0."""
    if not sizes:
        return (rows + 1) // 2 if rows > 1 else 0
    return max([size for size in sizes if size < padded_size(rows, sizes)], default=0)
