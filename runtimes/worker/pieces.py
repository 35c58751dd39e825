"""Runs a model over any number of rows: filled up to a declared size, cut up where they are too many.

Rows for which there is no memory run again, half as many at a time, and how many there was memory for
is remembered: a model that was given a larger max_batch_size than its device holds is slower than it
could be, and answers.
"""

from typing import Any, List, Optional, Sequence

from runtimes.bounded_cache import BoundedCache
from runtimes.contract import Model
from runtimes.worker.batcher import Batching, padded_size
from runtimes.worker.rows import Arrays, cut, joined, smaller

# Of so many different shapes it is remembered how many rows there is memory for.
_MAX_SHAPES = 256


class RowsMiscounted(Exception):
    """A batch came back with another number of rows than went in. Its text says which output, and how many."""


class Pieces:
    def __init__(self, model: Model, batching: Batching) -> None:
        self._model = model
        self._batching = batching
        # Signature and shape of one row → how many rows there is memory for, once there was none for more.
        self._fitting = BoundedCache(_MAX_SHAPES)  # type: BoundedCache[Any, int]

    def most(self, inputs: Arrays, signature: str, rows: int) -> int:
        """How many of these rows may run at once. They are 0 where rows are not counted."""
        most = self._batching.max_rows if rows else 0
        fitting = self._fitting.entries
        return fitting.get(self._shape(inputs, signature), most) if fitting else most

    def run(self, inputs: Arrays, wanted: Sequence[str], signature: str, rows: int) -> Arrays:
        """The outputs for all rows.

        Raises MemoryError when there is none for the smallest piece either, and RowsMiscounted.
        """
        if not rows:
            return self._model.infer(inputs, wanted, signature)
        dim, most = self._batching.dim, self.most(inputs, signature, rows)
        parts: List[Arrays] = []
        at, ran_out = 0, False
        while at < rows:
            count = min(most, rows - at)
            piece = inputs if count == rows else cut(inputs, dim, at, at + count)
            part = self._run_piece(piece, wanted, signature, count)
            if part is None:
                most, ran_out = smaller(count, self._batching.sizes), True
                continue
            parts.append(part)
            at += count
        if ran_out:
            # All of them ran: it was their number, and no single request, that was too much.
            self._remember(inputs, signature, rows, most)
        return parts[0] if len(parts) == 1 else joined(parts, dim, rows)

    def _run_piece(self, inputs: Arrays, wanted: Sequence[str], signature: str, rows: int) -> Optional[Arrays]:
        """None when there was no memory for so many rows. The next try is made outside of `except`: in there, the
        error holds the framework's frames, and these the memory."""
        sizes = self._batching.sizes
        try:
            given = joined([inputs], self._batching.dim, padded_size(rows, sizes), self._model.empty)
            return self.checked(self._model.infer(given, wanted, signature), rows)
        except MemoryError:
            if not smaller(rows, sizes):
                raise
        return None

    def checked(self, outputs: Arrays, rows: int) -> Arrays:
        """The outputs of one piece, without what filled it up. Raises RowsMiscounted."""
        dim, size = self._batching.dim, padded_size(rows, self._batching.sizes)
        for name, array in outputs.items():
            if array.ndim <= dim or array.shape[dim] != size:
                raise RowsMiscounted("output '%s' has shape %s for %d rows" % (name, list(array.shape), size))
        return cut(outputs, dim, 0, rows) if size > rows else outputs

    def _remember(self, inputs: Arrays, signature: str, rows: int, most: int) -> None:
        self._fitting.put(self._shape(inputs, signature), most)
        print(
            "there was no memory for %d rows at once; from now on at most %d of this shape run together" % (rows, most)
        )

    def _shape(self, inputs: Arrays, signature: str) -> Any:
        dim = self._batching.dim
        shapes = [(name, array.shape[:dim] + array.shape[dim + 1 :]) for name, array in inputs.items()]
        return signature, tuple(sorted(shapes))
