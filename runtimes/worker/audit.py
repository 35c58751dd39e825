"""Real batches, answered again request by request while nothing waits: did company change an answer?

A trial at load can only invent inputs. An audit sees real ones, and takes no more than a share of the model's time:
what it has spent stays below that share of what the model has computed. A sampled batch is copied, since its inputs
lie where the next requests will; one batch is kept at a time.
"""

import time
from collections import deque
from typing import Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from runtimes.contract import DeviceLost, first_line
from runtimes.wire import InferFrame, ResultFrame, Tensor, to_array
from runtimes.worker.compare import Arrays, Difference, Noise, difference
from runtimes.worker.pending import Pending
from runtimes.worker.pieces import Pieces, RowsMiscounted

# A batch with more bytes than this, inputs and answers together, is not sampled.
_MOST_BYTES = 64 << 20


class _Sampled(NamedTuple):
    """One request of a batch, and what it was answered."""

    frame: InferFrame
    rows: int
    answered: Sequence[Tensor]


class Auditor:
    """share: of the model's time that audits may take; 0 for none.

    runs, differences: counted from the start.
    """

    def __init__(self, pieces: Pieces, dim: int, share: float) -> None:
        self.runs = 0
        self.differences = 0
        self._pieces = pieces
        self._dim = dim
        self._share = share
        self._computed = 0.0
        self._spent = 0.0
        self._usual = 0.0  # seconds of the newest run by itself
        self._waiting: Deque[_Sampled] = deque()
        self._company: List[InferFrame] = []  # the whole sampled batch

    def ran(self, batch: Sequence[Pending], outcomes: Sequence[object]) -> None:
        """A batch has run, and its answers have not left yet. It may be sampled."""
        first = outcomes[0]
        if not self._share or not isinstance(first, ResultFrame):
            return
        seconds = first.compute_infer_ns / 1e9
        self._computed += seconds
        if self._waiting or len(batch) < 2 or not self._can_afford(self._usual or seconds):
            return
        if first.batch_rows != sum([pending.rows for pending in batch]):
            return  # it failed together, and each has run by itself
        answered = [(pending, each) for pending, each in zip(batch, outcomes) if isinstance(each, ResultFrame)]
        if _size(answered) > _MOST_BYTES:
            return
        for pending, outcome in answered:
            frame = pending.frame._replace(inputs=[_copied(tensor) for tensor in pending.frame.inputs])
            self._waiting.append(_Sampled(frame, pending.rows, [_copied(tensor) for tensor in outcome.outputs]))
        self._company = [each.frame for each in self._waiting]

    def _can_afford(self, seconds: float) -> bool:
        return self._spent + seconds <= self._share * self._computed

    @property
    def is_due(self) -> bool:
        """Whether there is a request to run again, and time left for it."""
        return bool(self._waiting) and self._can_afford(self._usual)

    def step(self) -> Optional[str]:
        """Run one request by itself; what is wrong with what it was answered in company, if anything is."""
        sampled = self._waiting.popleft()
        began = time.monotonic()
        try:
            found = self._compare(sampled)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - it has been answered already: nobody needs this run
            print("an audit could not run a request again: " + first_line(error))
            self._waiting.clear()
            self._company = []
            return None
        finally:
            self._usual = time.monotonic() - began
            self._spent += self._usual
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
