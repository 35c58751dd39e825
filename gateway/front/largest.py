"""The k largest of each row: what classification and [postprocess] answer with."""

import numpy as np


def largest(rows: np.ndarray, count: int) -> np.ndarray:
    """Of each row, the indices of the `count` largest: the largest first, of equal ones the first, NaN last."""
    # Turned round and sorted upwards: only so do equal ones stay in their order. numpy puts NaN last both ways.
    key = -rows if rows.dtype.kind == "f" else np.invert(rows)
    if not 0 < count < key.shape[1]:
        return np.argsort(key, axis=1, kind="stable")[:, :count]
    last = np.partition(key, count - 1, axis=1)[:, count - 1 : count]
    row, column = np.nonzero(~(key > last))  # all that may be among them: more than `count` where some are equal
    order = np.lexsort((key[row, column], row))
    row, column = row[order], column[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    return column[place < count].reshape(-1, count)
