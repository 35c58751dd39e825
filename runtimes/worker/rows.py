"""Concatenates, pads and splits arrays by rows. `dim` is the dimension that counts the rows.

Requests with the same layout, such as those of one client, do not need an array each: their bytes are concatenated, or
split, at a tenth of the cost. For tiny models that is most of a worker's work.
"""

from itertools import accumulate
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from runtimes.contract import numpy_dtype
from runtimes.layouts import GroupedTensors, TensorGroup, TensorLayout, layout_of
from runtimes.tensors import Buffer, Tensor, from_array, to_array
from runtimes.wire import InferFrame, ResultFrame
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
    arrays, runs = {}, _runs(frames)
    for index, (name, datatype, shape, _) in enumerate(layout[2]):
        if runs is None:
            data: Any = b"".join([frame.inputs[index].data for frame in frames])
        elif len(runs) == 1:
            data = runs[0][0].data(index, *runs[0][1:])
        else:
            data = b"".join([group.data(index, start, stop) for group, start, stop in runs])
        arrays[name] = np.frombuffer(data, numpy_dtype(datatype)).reshape((size,) + shape[1:])
    return arrays


def _runs(frames: Sequence[InferFrame]) -> Optional[List[Tuple[TensorGroup, int, int]]]:
    """Return which requests of which groups these are, in order. None if one of them is in no group."""
    runs: List[Tuple[TensorGroup, int, int]] = []
    group, start, stop = None, 0, 0
    for frame in frames:
        inputs = frame.inputs
        if type(inputs) is not GroupedTensors:
            return None
        if inputs.group is group and inputs.member == stop:
            stop += 1
            continue
        if group is not None:
            runs.append((group, start, stop))
        group, start = inputs.group, inputs.member
        stop = start + 1
    return runs + [(group, start, stop)] if group is not None else None


def split_outputs(
    outputs: Arrays, dim: int, counts: Sequence[int], queue_ns: Sequence[int], common: ResultFrame
) -> Sequence[ResultFrame]:
    """Return the result of each request, which has its rows of every output. `common` is what the results share."""
    if dim == 0 and len(counts) > 1 and not any([array.dtype.kind in "OSU" for array in outputs.values()]):
        return BatchResults([from_array(name, array) for name, array in outputs.items()], counts, queue_ns, common)
    results = []
    for part, queued in zip(_split(outputs, dim, counts), queue_ns):
        tensors = [from_array(name, array) for name, array in part.items()]
        results.append(common._replace(queue_ns=queued, outputs=tensors, layout=layout_of("", (), tensors)))
    return results


class BatchResults(Sequence[ResultFrame]):
    """The results of a batch, as its outputs are: each request's are contiguous rows of every output.

    A ResultFrame per request is made where one is asked for. The loop needs none: it sends the rows of neighboring
    requests together (`send_results`).

    counts  rows of each request
    common  what the results have in common, without layout and outputs
    """

    def __init__(
        self, outputs: Sequence[Tensor], counts: Sequence[int], queue_ns: Sequence[int], common: ResultFrame
    ) -> None:
        self.counts, self.queue_ns, self.common = counts, queue_ns, common
        self._outputs = outputs
        self._row_bytes = [len(output.data) // max(output.shape[0], 1) for output in outputs]
        self._layouts: Dict[int, TensorLayout] = {}
        self._starts: List[int] = []  # rows before those of each request; empty until one is asked for

    def bytes_of(self, rows: int) -> int:
        """Return the bytes of a result with this many rows."""
        return rows * sum(self._row_bytes)

    def layout(self, rows: int) -> TensorLayout:
        """Return the layout of a result with this many rows."""
        layout = self._layouts.get(rows)
        if layout is None:
            tensors = [
                Tensor(name, datatype, (rows,) + shape[1:], data[: rows * size])
                for (name, datatype, shape, data), size in zip(self._outputs, self._row_bytes)
            ]
            layout = self._layouts[rows] = layout_of("", (), tensors)
        return layout

    def data(self, start: int, stop: int) -> List[Buffer]:
        """Return the bytes of these rows, for each output."""
        return [each.data[start * size : stop * size] for each, size in zip(self._outputs, self._row_bytes)]

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not self._starts:
            self._starts = [0] + list(accumulate(self.counts[:-1]))
        count, start = self.counts[index], self._starts[index]
        layout = self.layout(count)
        parts = zip(layout[2], self.data(start, start + count))
        tensors = [Tensor(name, datatype, shape, data) for (name, datatype, shape, _), data in parts]
        return self.common._replace(queue_ns=self.queue_ns[index], outputs=tensors, layout=layout)


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
