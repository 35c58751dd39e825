"""Audits: requests of real batches run again, alone, while the worker is idle, to see whether their answers change.

The trial at load can only use synthetic inputs; audits see real ones. They may use a share of the model's time and pay
from it for everything: looking at batches, copying one, running its requests again and comparing the answers. A sampled
batch is copied, because the memory of its inputs is reused for later requests. One batch is kept at a time.
"""

import sys
from collections import deque
from typing import Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from runtimes.contract import DeviceLost, first_line
from runtimes.request_frames import InferFrame
from runtimes.result_frames import ResultFrame
from runtimes.tensors import Tensor, to_array, widened
from runtimes.worker.budget import Budget
from runtimes.worker.chunked_model import ChunkedModel, RowCountMismatch
from runtimes.worker.compare import Arrays, Difference, Noise, difference
from runtimes.worker.pending import Batch, Pending
from runtimes.worker.results import Outcome, infer_ns

# A batch whose inputs and outputs have more bytes is not sampled. Requests wait while a batch is copied, and the copy
# stays in memory until it has been audited. A lower limit leaves models with large inputs unaudited.
_MAX_BYTES = 64 << 20
# With a share of 0.01, one batch in ten is considered for sampling: the interval is 1 / (share * this). Considering
# each batch costs 5 microseconds (budget.py), which would be the whole share of a model that takes half a millisecond.
# A lower value spends less on considering batches, but sees fewer of them; a higher one does the opposite.
_SHARE_TO_INTERVAL = 10.0


class _Sampled(NamedTuple):
    """A copy of one request of a batch, and of its answer."""

    frame: InferFrame
    rows: int
    outputs: Sequence[Tensor]


class Auditor:
    """Samples batches, and runs their requests again within `budget`.

    runs, differences: how many requests were audited since the start, and how many of them got another answer.
    """

    def __init__(self, chunked_model: ChunkedModel, dim: int, budget: Budget) -> None:
        self.runs = 0
        self.differences = 0
        self._chunked_model = chunked_model
        self._dim = dim
        self._budget = budget
        self.every = max(1, round(1 / (_SHARE_TO_INTERVAL * budget.share))) if budget.share else sys.maxsize
        self.since_look = 0  # batches
        self._expected = 0.0  # seconds that the next step will take: as long as the last one took
        self._waiting: Deque[_Sampled] = deque()
        self._batch_frames: List[InferFrame] = []  # the whole sampled batch

    def observe(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Consider a batch that has run, and whose results have not been sent yet, for sampling."""
        self.since_look += 1
        if self.since_look < self.every:
            return
        nanoseconds = infer_ns(outcomes)
        if nanoseconds is None:
            return
        seconds = nanoseconds / 1e9
        self._budget.earn(seconds * self.since_look)  # assumes the others took as long; Budget checks CPU time
        self.since_look = 0
        if self._waiting or len(batch) < 2 or not self._budget.affords(self._expected or seconds / len(batch)):
            return
        with self._budget.spend():
            self._sample(batch, outcomes)

    def _sample(self, batch: Batch, outcomes: Sequence[object]) -> None:
        answered = [(pending, each) for pending, each in zip(batch, outcomes) if isinstance(each, ResultFrame)]
        if answered[0][1].batch_rows != batch.rows:
            return  # the batch failed, and each request has run alone
        if _size(answered) > _MAX_BYTES:
            return
        for pending, outcome in answered:
            frame = pending.frame._replace(inputs=[_copy(tensor) for tensor in pending.frame.inputs])
            self._waiting.append(_Sampled(frame, pending.rows, [_copy(tensor) for tensor in outcome.outputs]))
        self._batch_frames = [each.frame for each in self._waiting]

    @property
    def is_due(self) -> bool:
        """Whether there is a request to audit, and time left for it."""
        return bool(self._waiting) and self._budget.affords(self._expected)

    def step(self) -> Optional[str]:
        """Audit one request. Returns a description of the difference, or None if its answer is the same."""
        sampled = self._waiting.popleft()
        before = self._budget.left
        try:
            with self._budget.spend():
                found = self._compare(sampled)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - the client has its answer, so a failed audit matters to no one
            print("an audit could not run a request again: " + first_line(error))
            self._waiting.clear()
            self._batch_frames = []
            return None
        finally:
            self._expected = before - self._budget.left
        self.runs += 1
        text = None
        if found is not None:
            self.differences += 1
            self._waiting.clear()
            text = self._describe(sampled, found)
        if not self._waiting:
            self._batch_frames = []
        return text

    def _compare(self, sampled: _Sampled) -> Optional[Difference]:
        frame = sampled.frame
        inputs = {tensor.name: to_array(tensor) for tensor in frame.inputs}
        batched = {tensor.name: to_array(tensor) for tensor in sampled.outputs}

        def alone(given: Arrays) -> Arrays:
            return self._chunked_model.run(given, frame.outputs, frame.signature, sampled.rows)

        try:
            expected = alone(inputs)
        except RowCountMismatch:
            return Difference(next(iter(batched), ""), np.inf, np.nan)
        found = difference(batched, expected, self._dim)
        if found is None:
            return None
        noise = Noise(alone, inputs, expected)
        if not noise.is_deterministic(self._dim) or noise.explains(batched, self._dim):
            return None  # the model is random, or amplifies float noise
        return found

    def _describe(self, sampled: _Sampled, found: Difference) -> str:
        return "%s between a batch and the same request alone (its inputs: %s; of the whole batch: %s)" % (
            found,
            "; ".join(_ranges(sampled.frame.inputs)),
            "; ".join(_ranges([tensor for frame in self._batch_frames for tensor in frame.inputs])),
        )


def _size(answered: Sequence[Tuple[Pending, ResultFrame]]) -> int:
    return sum(
        len(tensor.data) for pending, outcome in answered for tensor in list(pending.frame.inputs) + outcome.outputs
    )


def _copy(tensor: Tensor) -> Tensor:
    return tensor._replace(data=bytes(tensor.data))


def _ranges(tensors: Sequence[Tensor]) -> List[str]:
    """Describe the tensors by name: datatype, shape of the first one, orders of magnitude of the extreme values."""
    by_name: Dict[str, List[Tensor]] = {}
    for tensor in tensors:
        by_name.setdefault(tensor.name, []).append(tensor)
    return [
        "'%s' %s%s %s" % (name, each[0].datatype, list(each[0].shape), _range(each)) for name, each in by_name.items()
    ]


def _range(tensors: Sequence[Tensor]) -> str:
    """Describe the values by their extremes, rounded to one digit so that the log contains no client's value."""
    arrays = [to_array(tensor) for tensor in tensors]
    if tensors[0].datatype == "BYTES":
        lengths = [len(text) for array in arrays for text in array.ravel()]
        return "of %d to %d bytes" % (min(lengths), max(lengths)) if lengths else "empty"
    # One tensor at a time, and in its own datatype: all of them together can be large.
    finite = [array[np.isfinite(array)] if array.dtype.kind == "f" else array for array in map(widened, arrays)]
    ends = [(float(numbers.min()), float(numbers.max())) for numbers in finite if numbers.size]
    description = "without a finite value"
    if ends:
        description = "from %.0e to %.0e" % (min(low for low, _ in ends), max(high for _, high in ends))
    return description + (", not all finite" if any(a.size < b.size for a, b in zip(finite, arrays)) else "")
