"""Runs one batch: puts the inputs together, calls the model, splits the outputs back."""

import sys
import time
import traceback
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from runtimes.contract import InvalidInput, Model, Unsupported
from runtimes.wire import ResultFrame, from_array, to_array
from runtimes.worker.batcher import Batching, Pending, padded_size

Arrays = Dict[str, np.ndarray]


class Failure(NamedTuple):
    """Why one request has no answer: an error kind of the gateway's, and a sentence for the client."""

    kind: str
    message: str


Outcome = Union[ResultFrame, Failure]


class Executor:
    def __init__(self, model: Model, batching: Batching, max_response_bytes: int) -> None:
        self.model = model
        self.batching = batching
        self.max_response_bytes = max_response_bytes
        # Told which requests are about to run together.
        self.on_run: Callable[[Sequence[Pending]], None] = lambda batch: None
        # The arrays of the last run that worked: (signature, inputs, outputs). Whoever reads it, clears it.
        self.seen: Optional[tuple] = None

    def run(self, batch: Sequence[Pending]) -> List[Outcome]:
        """One outcome per request, in order. A bad request fails alone: the others run again without it."""
        try:
            return self._run(batch)
        except Exception as error:  # noqa: BLE001 - whatever a framework raises, the worker lives on
            if len(batch) == 1:
                return [_failure(error)]
        outcomes: List[Outcome] = []
        for pending in batch:
            outcomes += self.run([pending])
        return outcomes

    def _run(self, batch: Sequence[Pending]) -> List[Outcome]:
        self.on_run(batch)
        started = time.monotonic()
        first = batch[0].frame
        inputs = self._gather(batch)
        rows = sum(pending.rows for pending in batch)
        gathered = time.monotonic()
        outputs = self._infer(inputs, first.outputs, first.signature, rows)
        inferred = time.monotonic()
        self.seen = (first.signature, inputs, outputs)
        for name in first.outputs:
            if name not in outputs:
                raise InvalidInput("the model has no output '%s'; it has %s" % (name, ", ".join(sorted(outputs))))
        parts = self._split(outputs, [pending.rows for pending in batch]) if rows else [outputs]
        tensors = [[from_array(name, array) for name, array in part.items()] for part in parts]
        finished = time.monotonic()
        outcomes: List[Outcome] = []
        for pending, answer in zip(batch, tensors):
            size = sum(len(tensor.data) for tensor in answer)
            if size > self.max_response_bytes:
                outcomes.append(
                    Failure(
                        "too_large",
                        "the answer has %d bytes and the limit is %d; ask for fewer rows or fewer outputs"
                        % (size, self.max_response_bytes),
                    )
                )
                continue
            outcomes.append(
                ResultFrame(
                    _ns(started - pending.arrived),
                    _ns(gathered - started),
                    _ns(inferred - gathered),
                    _ns(finished - inferred),
                    max(rows, 1),
                    answer,
                )
            )
        return outcomes

    def _gather(self, batch: Sequence[Pending]) -> Arrays:
        try:
            each = [{tensor.name: to_array(tensor) for tensor in pending.frame.inputs} for pending in batch]
        except ValueError as error:
            raise InvalidInput(str(error)) from None
        if len(each) == 1:
            return each[0]
        dim = self.batching.dim
        return {name: np.concatenate([arrays[name] for arrays in each], axis=dim) for name in each[0]}

    def _infer(self, inputs: Arrays, wanted: Sequence[str], signature: str, rows: int) -> Arrays:
        """The outputs for all rows; a request larger than a batch runs in several."""
        if not rows:
            return self.model.infer(inputs, wanted, signature)
        most, dim = self.batching.max_rows, self.batching.dim
        if rows <= most:
            return self._infer_batch(inputs, wanted, signature, rows)
        parts = []
        for start in range(0, rows, most):
            stop = min(start + most, rows)
            piece = {name: _rows_of(array, dim, start, stop) for name, array in inputs.items()}
            parts.append(self._infer_batch(piece, wanted, signature, stop - start))
        return {name: np.concatenate([part[name] for part in parts], axis=dim) for name in parts[0]}

    def _infer_batch(self, inputs: Arrays, wanted: Sequence[str], signature: str, rows: int) -> Arrays:
        dim, size = self.batching.dim, padded_size(rows, self.batching.sizes)
        if size > rows:
            inputs = {name: _pad(array, dim, size - rows) for name, array in inputs.items()}
        outputs = self.model.infer(inputs, wanted, signature)
        for name, array in outputs.items():
            if array.ndim <= dim or array.shape[dim] != size:
                raise RuntimeError(
                    "output '%s' has shape %s for %d rows: this model must not be batched, "
                    "set max_batch_size = 0 in its model.toml" % (name, list(array.shape), size)
                )
        if size > rows:
            outputs = {name: _rows_of(array, dim, 0, rows) for name, array in outputs.items()}
        return outputs

    def _split(self, outputs: Arrays, counts: Sequence[int]) -> List[Arrays]:
        if len(counts) == 1:
            return [outputs]
        ends = np.cumsum(counts)
        return [
            {name: _rows_of(array, self.batching.dim, end - count, end) for name, array in outputs.items()}
            for count, end in zip(counts, ends)
        ]


def _rows_of(array: np.ndarray, dim: int, start: int, stop: int) -> np.ndarray:
    return array[(slice(None),) * dim + (slice(start, stop),)]


def _pad(array: np.ndarray, dim: int, count: int) -> np.ndarray:
    """More rows, copies of the last one: real values, so that no model meets numbers it never saw."""
    last = _rows_of(array, dim, array.shape[dim] - 1, array.shape[dim])
    return np.concatenate([array] + [last] * count, axis=dim)


def _failure(error: BaseException) -> Failure:
    if isinstance(error, InvalidInput):
        return Failure("invalid", str(error))
    if isinstance(error, Unsupported):
        return Failure("unsupported", str(error))
    traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
    sys.stderr.flush()
    if isinstance(error, MemoryError):
        return Failure("out_of_memory", "the model ran out of memory on this request; send fewer rows")
    return Failure("internal", "the model failed on this request; the gateway's log says why")


def _ns(seconds: float) -> int:
    return max(0, int(seconds * 1e9))
