"""Arrays by rows: put together, filled up, cut apart. `dim` is the dimension that counts them."""

from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from runtimes.worker.batcher import padded_size

Arrays = Dict[str, np.ndarray]


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
