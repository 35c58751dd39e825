"""The trial at load: do rows that are unlike each other get the same answers together as alone?

Rows of several kinds (worker/draws.py) run one by one, then all in a batch, in the opposite order, and as often as a
batch of the largest size holds. The first rows and one batch always run; the rest while the model has taken less than
`BUDGET_S`. A row that the model refuses is left out.
"""

import time
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from runtimes import id_ranges
from runtimes.contract import DeviceLost, InputRange, Model, first_line
from runtimes.worker import probe
from runtimes.worker.compare import Noise, difference
from runtimes.worker.draws import ID_BOUNDS, KINDS, draw
from runtimes.worker.rows import Arrays, cut, joined

BUDGET_S = 2.0
# So many rows run however long they take.
_MIN_ROWS = 3

_Row = Tuple[Arrays, Arrays]  # what goes in, what comes out


class Unsafe(Exception):
    """Batching does not hold, for this reason: a word of Facts', and a sentence."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def run(model: Model, name: str, most_rows: int, on_card: bool = False) -> Tuple[str, str]:
    """Why batching does not hold: (a word, a sentence); ("", "") if nothing shows.

    on_card: an index beyond a table ends a card for its process, so integers stay at 0 and 1 there.
    """
    failed = "it takes no invented inputs"
    ranges = {} if on_card else id_ranges.read(model, name)
    for free in probe.FREE_SIZES:
        trial = _Trial(model, name, free, ID_BOUNDS[-1:] if on_card else ID_BOUNDS, ranges)
        try:
            rows = trial.alone()
            if len(rows) > 1:  # a row beside itself shows nothing
                trial.together(rows, most_rows)
                return "", ""
        except Unsafe as unsafe:
            return unsafe.reason, str(unsafe)
        failed = trial.failed or failed
    return "trial", "a trial run failed: " + failed


class _Trial:
    """ids, ranges: see draws.py. Where a row is refused, ranges are left out first, then ids are smaller."""

    def __init__(self, model: Model, name: str, free: int, ids: Sequence[int], ranges: Dict[str, InputRange]) -> None:
        self._model = model
        self._name = name
        self._signature = model.signatures[name]
        self._free = free
        none = {}  # type: Dict[str, InputRange]
        self._ways = [(ids[0], ranges)] * bool(ranges) + [(largest, none) for largest in ids]
        self._seconds = 0.0
        self.failed = ""

    def alone(self) -> List[_Row]:
        """The rows that the model takes, each with its answer. Raises Unsafe."""
        rows: List[_Row] = []
        for kind in KINDS:
            if len(rows) >= _MIN_ROWS and self._seconds > BUDGET_S / 2:
                break
            row = self._one(kind)
            if row is not None:
                rows.append(row)
            elif kind == KINDS[0]:
                break  # another size of what is open, then
        return rows

    def _one(self, kind: str) -> Optional[_Row]:
        """None for a row that the model refuses. Integers are smaller from then on, where only smaller ones do."""
        for tried, (ids, ranges) in enumerate(self._ways):
            inputs = draw(self._signature, kind, self._free, ids, ranges)
            try:
                answer = self._infer(inputs)
            except DeviceLost:
                raise
            except Exception as error:  # noqa: BLE001 - a model may refuse invented inputs in any way it likes
                self.failed = first_line(error)
                if not (ranges or self._has_integers()):
                    return None
                continue
            for output, array in answer.items():
                if array.ndim < 1 or array.shape[0] != 1:
                    raise Unsafe("rows", "output '%s' has shape %s for one row" % (output, list(array.shape)))
            if kind == "huge":
                self._ways = self._ways[tried:]
            return inputs, answer
        return None

    def _has_integers(self) -> bool:
        return any("INT" in spec.datatype for spec in self._signature.inputs)

    def together(self, rows: List[_Row], most_rows: int) -> None:
        """Raises Unsafe where what comes of a batch differs from what came of its rows."""
        most = max(2, most_rows)
        some = (rows * 2)[: max(2, min(most, len(rows)))]
        self._batch(some)
        orders = [some[::-1]]
        if most > len(some):
            orders.append((rows[::-1] * most)[:most])
        for order in orders:
            if self._seconds > BUDGET_S:
                return
            self._batch(order)

    def _batch(self, rows: List[_Row]) -> None:
        inputs = joined([row[0] for row in rows], 0, len(rows))
        try:
            answer = self._infer(inputs)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - as above; each of the rows has been taken by itself
            raise Unsafe("trial", "a trial run of %d rows failed: %s" % (len(rows), first_line(error))) from None
        for output, array in answer.items():
            if array.ndim < 1 or array.shape[0] != len(rows):
                shape = list(array.shape)
                raise Unsafe("rows", "output '%s' has shape %s for %d rows" % (output, shape, len(rows)))
        for index, (row, alone) in enumerate(rows):
            self._compare(row, alone, cut(answer, 0, index, index + 1))

    def _compare(self, row: Arrays, alone: Arrays, got: Arrays) -> None:
        found = difference(got, alone, 0)
        if found is None:
            return
        noise = Noise(self._infer, row, alone)
        if not noise.repeats(0):
            raise Unsafe("trial", "output '%s' differs when the same request runs again" % found.output)
        if not noise.covers(got, 0):
            text = "output '%s' of requests run together differs from that of the same requests run apart"
            raise Unsafe("trial", text % found.output)

    def _infer(self, inputs: Arrays) -> Arrays:
        began = time.monotonic()
        try:
            return self._model.infer(inputs, (), self._name)
        finally:
            self._seconds += time.monotonic() - began


def stray_output(model: Model, name: str, rows: int, dim: int, suspects: Sequence[str]) -> str:
    """An output whose rows are not those of the inputs, as a sentence's rest; "" if a run shows none.

    The same rows run in two orders, and outputs must follow. suspects: outputs that the artifact gives a fixed size
    there; they are strays unless a run shows that they are not.
    """
    signature = model.signatures[name]
    refused = "output '%s' does not count rows in dimension %d" % (suspects[0], dim) if suspects else ""
    if any(spec.shape is None or not spec.datatype for spec in signature.inputs):
        return refused
    answers = _in_two_orders(model, name, rows, dim)
    if answers is None:
        return refused
    inputs, answer, turned = answers
    for output, array in answer.items():
        if array.ndim <= dim or array.shape[dim] != rows:
            return "output '%s' has shape %s for %d rows" % (output, list(array.shape), rows)
    found = difference(turned, _turned(answer, dim), dim)
    if found is None:
        return ""
    noise = Noise(lambda given: model.infer(given, (), name), _turned(inputs, dim), turned)
    if not noise.repeats(dim) or noise.covers(_turned(answer, dim), dim):
        return refused  # a model that draws lots, or noise that it amplifies: its orders tell nothing
    return "the rows of output '%s' are not those of the inputs" % found.output


def _in_two_orders(model: Model, name: str, rows: int, dim: int) -> Optional[Tuple[Arrays, Arrays, Arrays]]:
    """Invented rows, the answers to them and to the same rows in the opposite order; None if the model refuses them."""
    for free in probe.FREE_SIZES:
        inputs = probe.generate(model.signatures[name], rows, dim, free, seed=0)
        try:
            return inputs, model.infer(inputs, (), name), model.infer(_turned(inputs, dim), (), name)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            print("a trial run of %d rows failed: %s" % (rows, first_line(error)))
    return None


def _turned(arrays: Arrays, dim: int) -> Arrays:
    return {name: np.flip(array, dim).copy() for name, array in arrays.items()}
