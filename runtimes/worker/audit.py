"""Real batches, answered again request by request while nothing waits: did company change an answer?

A trial at load can only invent inputs. An audit sees real ones, and takes no more than a share of the model's time.
Everything it does is paid from that: looking at batches, copying one, running its requests again, comparing the
answers. A sampled batch is copied, since its inputs lie where the next requests will; one batch is kept at a time.
"""

import sys
from collections import deque
from typing import Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from runtimes.contract import DeviceLost, first_line
from runtimes.tensors import Tensor, to_array
from runtimes.wire import InferFrame, ResultFrame
from runtimes.worker.budget import Budget
from runtimes.worker.compare import Arrays, Difference, Noise, difference
from runtimes.worker.pending import Pending
from runtimes.worker.pieces import Pieces, RowsMiscounted

# A batch with more bytes than this, inputs and answers together, is not sampled.
_MAX_BYTES = 64 << 20


# Looking at every batch would take a small model's whole share: with a share of 0.01, one in ten is looked at.
_LOOKED_AT = 10.0


class _Sampled(NamedTuple):
    """One request of a batch, and what it was answered."""

    frame: InferFrame
    rows: int
    answered: Sequence[Tensor]


class Auditor:
    """budget: what audits may take of the model's time.

    runs, differences: counted from the start.
    """

    def __init__(self, pieces: Pieces, dim: int, budget: Budget) -> None:
        self.runs = 0
        self.differences = 0
        self._pieces = pieces
        self._dim = dim
        self._budget = budget
        self._every = max(1, round(1 / (_LOOKED_AT * budget.share))) if budget.share else sys.maxsize
        self._since_look = 0  # batches
        self._expected = 0.0  # seconds that the next step takes: as many as the last one
        self._waiting: Deque[_Sampled] = deque()
        self._company: List[InferFrame] = []  # the whole sampled batch

    def ran(self, batch: Sequence[Pending], outcomes: Sequence[object]) -> None:
        """A batch has run, and its answers have not left yet. It may be sampled."""
        self._since_look += 1
        if self._since_look < self._every or not isinstance(outcomes[0], ResultFrame):
            return
        seconds = outcomes[0].compute_infer_ns / 1e9
        self._budget.earn(seconds * self._since_look)  # as if the others had taken as long; its CPU time will tell
        self._since_look = 0
        if self._waiting or len(batch) < 2 or not self._budget.affords(self._expected or seconds / len(batch)):
            return
        with self._budget.paid():
            self._sample(batch, outcomes)

    def _sample(self, batch: Sequence[Pending], outcomes: Sequence[object]) -> None:
        answered = [(pending, each) for pending, each in zip(batch, outcomes) if isinstance(each, ResultFrame)]
        if answered[0][1].batch_rows != sum([pending.rows for pending in batch]):
            return  # it failed together, and each has run by itself
        if _size(answered) > _MAX_BYTES:
            return
        for pending, outcome in answered:
            frame = pending.frame._replace(inputs=[_copied(tensor) for tensor in pending.frame.inputs])
            self._waiting.append(_Sampled(frame, pending.rows, [_copied(tensor) for tensor in outcome.outputs]))
        self._company = [each.frame for each in self._waiting]

    @property
    def is_due(self) -> bool:
        """Whether there is a request to run again, and time left for it."""
        return bool(self._waiting) and self._budget.affords(self._expected)

    def step(self) -> Optional[str]:
        """Run one request by itself; what is wrong with what it was answered in company, if anything is."""
        sampled = self._waiting.popleft()
        before = self._budget.left
        try:
            with self._budget.paid():
                found = self._compare(sampled)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - it has been answered already: nobody needs this run
            print("an audit could not run a request again: " + first_line(error))
            self._waiting.clear()
            self._company = []
            return None
        finally:
            self._expected = before - self._budget.left
        self.runs += 1
        text = None
        if found is not None:
            self.differences += 1
            self._waiting.clear()
            text = self._described(sampled, found)
        if not self._waiting:
            self._company = []
        return text

    def _compare(self, sampled: _Sampled) -> Optional[Difference]:
        frame = sampled.frame
        inputs = {tensor.name: to_array(tensor) for tensor in frame.inputs}
        answered = {tensor.name: to_array(tensor) for tensor in sampled.answered}

        def alone(given: Arrays) -> Arrays:
            return self._pieces.run(given, frame.outputs, frame.signature, sampled.rows)

        try:
            right = alone(inputs)
        except RowsMiscounted:
            return Difference(next(iter(answered), ""), np.inf, np.nan)
        found = difference(answered, right, self._dim)
        if found is None:
            return None
        noise = Noise(alone, inputs, right)
        if not noise.repeats(self._dim) or noise.covers(answered, self._dim):
            return None  # a model that draws lots, or noise that it amplifies
        return found

    def _described(self, sampled: _Sampled, found: Difference) -> str:
        return "%s between a batch and the same request alone (its inputs: %s; of the whole batch: %s)" % (
            found,
            "; ".join(_ranges(sampled.frame.inputs)),
            "; ".join(_ranges([tensor for frame in self._company for tensor in frame.inputs])),
        )


def _size(answered: Sequence[Tuple[Pending, ResultFrame]]) -> int:
    return sum(
        len(tensor.data) for pending, outcome in answered for tensor in list(pending.frame.inputs) + outcome.outputs
    )


def _copied(tensor: Tensor) -> Tensor:
    return tensor._replace(data=bytes(tensor.data))


def _ranges(tensors: Sequence[Tensor]) -> List[str]:
    """By name: datatype, shape of the first, and the magnitude of the least and the largest value of all."""
    by_name: Dict[str, List[Tensor]] = {}
    for tensor in tensors:
        by_name.setdefault(tensor.name, []).append(tensor)
    return [
        "'%s' %s%s %s" % (name, each[0].datatype, list(each[0].shape), _range(each)) for name, each in by_name.items()
    ]


def _range(tensors: Sequence[Tensor]) -> str:
    """Rounded to one digit, so that a tensor of one value is not told."""
    arrays = [to_array(tensor) for tensor in tensors]
    if tensors[0].datatype == "BYTES":
        lengths = [len(text) for array in arrays for text in array.ravel()]
        return "of %d to %d bytes" % (min(lengths), max(lengths)) if lengths else "empty"
    # One tensor at a time, and in its own datatype: all of them together can be large.
    finite = [array[np.isfinite(array)] if array.dtype.kind == "f" else array for array in arrays]
    ends = [(float(numbers.min()), float(numbers.max())) for numbers in finite if numbers.size]
    told = "without a finite value"
    if ends:
        told = "from %.0e to %.0e" % (min(low for low, _ in ends), max(high for _, high in ends))
    return told + (", not all finite" if any(a.size < b.size for a, b in zip(finite, arrays)) else "")
