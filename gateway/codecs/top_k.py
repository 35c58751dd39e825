"""Finds the k largest values of each row, for the classification extension and [postprocess]."""

import numpy as np

from gateway.errors import TooLarge
from runtimes.tensors import Tensor

# Sorting takes about 10 ms per MiB, on the event loop. A larger output would delay all other requests of the front.
_MAX_BYTES = 4 << 20


def check_size(tensor: Tensor) -> None:
    """Raises TooLarge if sorting the tensor would block the event loop for too long."""
    if len(tensor.data) > _MAX_BYTES:
        raise TooLarge(
            f"output '{tensor.name}' has {len(tensor.data)} bytes, and at most {_MAX_BYTES} can be classified; "
            "send fewer rows"
        )


def largest(rows: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the `count` largest values of each row: largest first, equal ones in order, NaN last.

    `rows` has shape [rows, values]; the result has [rows, min(count, values)].
    """
    # The negated values are sorted in ascending order, because a stable sort then keeps equal values in order. numpy
    # sorts NaN to the end.
    key = -rows if rows.dtype.kind == "f" else np.invert(rows)
    if not 0 < count < key.shape[1]:
        return np.argsort(key, axis=1, kind="stable")[:, :count]
    last = np.partition(key, count - 1, axis=1)[:, count - 1 : count]
    row, column = np.nonzero(~(key > last))  # the candidates: more than `count` if the last one has equals
    order = np.lexsort((key[row, column], row))
    row, column = row[order], column[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    return column[rank < count].reshape(-1, count)
