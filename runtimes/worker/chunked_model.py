"""Runs a model on any number of rows: pads them to a declared batch size, and splits them if there are too many.

If a batch runs out of memory, it is retried in halves, and the number of rows that fits is remembered for its shape.
A model whose max_batch_size exceeds what its device can hold is therefore slower than necessary, but works.
"""

from typing import Any, List, Sequence

from runtimes.bounded_cache import BoundedCache
from runtimes.contract import Model
from runtimes.worker.batcher import Batching, padded_size
from runtimes.worker.rows import Arrays, concatenate, next_smaller, slice_rows

# Shapes for which the number of rows that fit is remembered. Only shapes that ran out of memory are kept. If there are
# more, the oldest is forgotten and runs out of memory once more, which costs a failed run.
_MAX_SHAPES = 256


class RowCountMismatch(Exception):
    """An output has another number of rows than the inputs. The message names the output and its shape."""


class ChunkedModel:
    """A model that runs in chunks of at most `max_rows` rows."""

    def __init__(self, model: Model, batching: Batching) -> None:
        self._model = model
        self._batching = batching
        # Signature and shape of one row → the number of rows that fit into memory, once a larger number did not.
        self._rows_that_fit = BoundedCache(_MAX_SHAPES)  # type: BoundedCache[Any, int]

    def max_rows(self, inputs: Arrays, signature: str, rows: int) -> int:
        """Return how many of these rows may run at once; 0 if `rows` is 0, because rows are not counted."""
        limit = self._batching.max_rows if rows else 0
        fits = self._rows_that_fit.entries
        return fits.get(self._shape_key(inputs, signature), limit) if fits else limit

    def run(self, inputs: Arrays, output_names: Sequence[str], signature: str, rows: int) -> Arrays:
        """Return the outputs for all rows.

        Raises MemoryError if even the smallest chunk does not fit into memory, and RowCountMismatch.
        """
        if not rows:
            return self._model.infer(inputs, output_names, signature)
        dim, limit, sizes = self._batching.dim, self._batching.max_rows, self._batching.sizes
        if self._rows_that_fit.entries:
            limit = self.max_rows(inputs, signature, rows)
        parts: List[Arrays] = []
        start, ran_out = 0, False
        while start < rows:
            count = min(limit, rows - start)
            chunk = inputs if count == rows else slice_rows(inputs, dim, start, start + count)
            try:
                if sizes:
                    chunk = concatenate([chunk], dim, padded_size(count, sizes), self._model.empty)
                outputs = self._model.infer(chunk, output_names, signature)
            except MemoryError:
                limit, ran_out = next_smaller(count, sizes), True
                if not limit:
                    raise
                # This leaves `except`, in which the traceback keeps the frames of the framework and their memory.
                continue
            parts.append(self.check_rows(outputs, count))
            start += count
        if ran_out:
            # All chunks ran, so the batch failed because of its size, and not because of one of its requests.
            self._remember(inputs, signature, rows, limit)
        return parts[0] if len(parts) == 1 else concatenate(parts, dim, rows)

    def check_rows(self, outputs: Arrays, rows: int) -> Arrays:
        """Return the outputs of one chunk without its padding. Raises RowCountMismatch."""
        dim, sizes = self._batching.dim, self._batching.sizes
        size = padded_size(rows, sizes) if sizes else rows
        for name, array in outputs.items():
            shape = array.shape
            if len(shape) <= dim or shape[dim] != size:
                raise RowCountMismatch("output '%s' has shape %s for %d rows" % (name, list(shape), size))
        return slice_rows(outputs, dim, 0, rows) if size > rows else outputs

    def _remember(self, inputs: Arrays, signature: str, rows: int, limit: int) -> None:
        self._rows_that_fit.put(self._shape_key(inputs, signature), limit)
        print(
            "%d rows did not fit into memory; from now on, at most %d rows of this shape run together" % (rows, limit)
        )

    def _shape_key(self, inputs: Arrays, signature: str) -> Any:
        dim = self._batching.dim
        shapes = [(name, array.shape[:dim] + array.shape[dim + 1 :]) for name, array in inputs.items()]
        return signature, tuple(sorted(shapes))
