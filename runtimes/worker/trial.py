"""The trial at load: checks whether different rows get the same answers in a batch as alone.

Rows of several kinds (worker/draws.py) run one by one, then all in one batch, then in the opposite order, then repeated
up to the largest batch. The first rows and one batch always run; the others run until the model has used `BUDGET_S`. A
row that the model refuses is skipped. All of this is done with all inputs, and again without each combination of
optional ones, because a model may then do something else.
"""

import time
from itertools import chain, combinations
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from runtimes import id_ranges
from runtimes.contract import DeviceLost, InputRange, Model, Signature, first_line
from runtimes.worker import probe
from runtimes.worker.compare import Noise, difference
from runtimes.worker.draws import ID_BOUNDS, KINDS, draw
from runtimes.worker.rows import Arrays, concatenate, slice_rows

# Seconds of the model's time for one signature. It delays READY at every load; a lower limit shows slow models fewer
# kinds of rows. With 2 s, models of up to 0.1 s per row see all of them.
BUDGET_S = 2.0
# Rows that run however long they take. With fewer, a batch would hardly contain different rows.
_MIN_ROWS = 3
# With more optional inputs, there are too many combinations to try: 15 of 4 take five runs each or more.
_MAX_OPTIONAL = 4

_Row = Tuple[Arrays, Arrays]  # what goes in, what comes out


class Unsafe(Exception):
    """Batching is not safe. `reason` is one of those in Facts; the message is a sentence."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def run(model: Model, name: str, max_rows: int, on_card: bool = False) -> Tuple[str, str]:
    """Return why batching is not safe, as (reason, sentence), or ("", "") if the trial finds nothing.

    on_card: whether the model runs on a GPU. There, an index beyond a table makes the device unusable for the process,
    so integers stay at 0 and 1.
    """
    ranges = {} if on_card else id_ranges.read_ranges(model, name)
    seconds, failed, without = 0.0, "", ""
    try:
        for without, signature in _signatures(model.signatures[name]):
            for free in probe.FREE_SIZES:
                ids = ID_BOUNDS[-1:] if on_card else ID_BOUNDS
                trial = _Trial(model, name, signature, free, ids, ranges, seconds)
                rows = trial.run_alone()
                if len(rows) > 1:  # a batch of equal rows shows nothing
                    trial.run_batched(rows, max_rows)
                    seconds = trial.seconds
                    break
                failed = trial.failed or failed
            else:
                if not without:  # requests without an optional input may be refused as well
                    return "trial", "a trial run failed: " + (failed or "it accepts no synthetic inputs")
    except Unsafe as unsafe:
        return unsafe.reason, str(unsafe) + without
    return "", ""


def _signatures(signature: Signature) -> Iterator[Tuple[str, Signature]]:
    """Yield the signature, then without each combination of optional inputs. Raises Unsafe if there are too many.

    The text is how to continue a sentence about requests like these. If outputs decide which inputs are needed, the
    others change nothing about an answer.
    """
    yield "", signature
    if signature.needs:
        return
    count = len(signature.optional)
    if count > _MAX_OPTIONAL:
        text = "it has %d optional inputs, and a trial run leaves out each combination of at most %d"
        raise Unsafe("trial", text % (count, _MAX_OPTIONAL))
    sizes = [count, *range(1, count)]  # all of them first, since most requests give either all of them or none
    for names in chain.from_iterable(combinations(signature.optional, size) for size in sizes if size):
        inputs = tuple(spec for spec in signature.inputs if spec.name not in names)
        if inputs:
            plural = "s" if len(names) > 1 else ""
            quoted = ", ".join("'%s'" % name for name in names)
            yield " without input%s %s" % (plural, quoted), signature._replace(inputs=inputs)


class _Trial:
    """One trial, with one size for variable dimensions.

    ids, ranges: see draws.py. If a row is refused, it is tried without ranges, and then with smaller and smaller ids.
    seconds: of the model's time that it and earlier trials have used
    """

    def __init__(
        self,
        model: Model,
        name: str,
        signature: Signature,
        free: int,
        ids: Sequence[int],
        ranges: Dict[str, InputRange],
        seconds: float,
    ) -> None:
        self._model = model
        self._name = name
        self._signature = signature
        self._free = free
        none = {}  # type: Dict[str, InputRange]
        self._attempts = [(ids[0], ranges)] * bool(ranges) + [(largest, none) for largest in ids]
        self.seconds = seconds
        self.failed = ""

    def run_alone(self) -> List[_Row]:
        """Run the rows one by one. Return those that the model accepts, with their answers. Raises Unsafe."""
        rows: List[_Row] = []
        for kind in KINDS:
            if len(rows) >= _MIN_ROWS and self.seconds > BUDGET_S / 2:
                break
            row = self._try_row(kind)
            if row is not None:
                rows.append(row)
            elif kind == KINDS[0]:
                break  # the size for variable dimensions does not fit
        return rows

    def _try_row(self, kind: str) -> Optional[_Row]:
        """Return a row with its answer, or None if the model refuses it.

        If the model accepts only smaller integers, later rows have these as well.
        """
        for tried, (ids, ranges) in enumerate(self._attempts):
            inputs = draw(self._signature, kind, self._free, ids, ranges)
            try:
                answer = self._infer(inputs)
            except DeviceLost:
                raise
            except Exception as error:  # noqa: BLE001 - a model may refuse synthetic inputs with any exception
                self.failed = first_line(error)
                if not (ranges or self._has_integers()):
                    return None
                continue
            for output, array in answer.items():
                if array.ndim < 1 or array.shape[0] != 1:
                    raise Unsafe("rows", "output '%s' has shape %s for one row" % (output, list(array.shape)))
            if kind == "huge":
                self._attempts = self._attempts[tried:]
            return inputs, answer
        return None

    def _has_integers(self) -> bool:
        return any("INT" in spec.datatype for spec in self._signature.inputs)

    def run_batched(self, rows: List[_Row], max_rows: int) -> None:
        """Run the rows in batches. Raises Unsafe if an answer differs from that of the row alone."""
        limit = max(2, max_rows)
        some = (rows * 2)[: max(2, min(limit, len(rows)))]
        self._batch(some)
        orders = [some[::-1]]
        if limit > len(some):
            orders.append((rows[::-1] * limit)[:limit])
        for order in orders:
            if self.seconds > BUDGET_S:
                return
            self._batch(order)

    def _batch(self, rows: List[_Row]) -> None:
        inputs = concatenate([row[0] for row in rows], 0, len(rows))
        try:
            answer = self._infer(inputs)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - as above; but the model accepts each of these rows alone
            raise Unsafe("trial", "a trial run of %d rows failed: %s" % (len(rows), first_line(error))) from None
        for output, array in answer.items():
            if array.ndim < 1 or array.shape[0] != len(rows):
                shape = list(array.shape)
                raise Unsafe("rows", "output '%s' has shape %s for %d rows" % (output, shape, len(rows)))
        for index, (row, alone) in enumerate(rows):
            self._compare(row, alone, slice_rows(answer, 0, index, index + 1))

    def _compare(self, row: Arrays, alone: Arrays, got: Arrays) -> None:
        found = difference(got, alone, 0)
        if found is None:
            return
        noise = Noise(self._infer, row, alone)
        if not noise.is_deterministic(0):
            raise Unsafe("trial", "output '%s' differs when the same request runs again" % found.output)
        if not noise.explains(got, 0):
            text = "output '%s' of requests that run together differs from that of the same requests alone"
            raise Unsafe("trial", text % found.output)

    def _infer(self, inputs: Arrays) -> Arrays:
        began = time.monotonic()
        try:
            return self._model.infer(inputs, (), self._name)
        finally:
            self.seconds += time.monotonic() - began


def stray_output(model: Model, name: str, rows: int, dim: int, suspects: Sequence[str]) -> str:
    """Return the end of a sentence about an output whose rows do not correspond to the inputs'; "" if there is none.

    The same rows run in several orders, and the outputs must change their order with them. suspects: outputs for which
    the artifact declares a fixed size in dimension `dim`; they are reported unless a run shows that they count rows.
    """
    signature = model.signatures[name]
    refused = "output '%s' does not count rows in dimension %d" % (suspects[0], dim) if suspects else ""
    if any(spec.shape is None or not spec.datatype for spec in signature.inputs):
        return refused
    orders = _orders(rows)
    answers = _run_in_orders(model, name, rows, dim, orders)
    if answers is None:
        return refused
    inputs, answer, reordered_answers = answers
    for output, array in answer.items():
        if array.ndim <= dim or array.shape[dim] != rows:
            return "output '%s' has shape %s for %d rows" % (output, list(array.shape), rows)
    for order, reordered_answer in zip(orders, reordered_answers):
        expected = _take(answer, order, dim)
        found = difference(reordered_answer, expected, dim)
        if found is None:
            continue
        noise = Noise(lambda given: model.infer(given, (), name), _take(inputs, order, dim), reordered_answer)
        if not noise.is_deterministic(dim) or noise.explains(expected, dim):
            return refused  # the model is random or amplifies noise, so the order of its outputs shows nothing
        return "the rows of output '%s' do not correspond to those of the inputs" % found.output
    return ""


def _orders(rows: int) -> List[List[int]]:
    """Return the orders in which rows are tried: backwards, and with the first two exchanged.

    The first alone shows nothing of a model that reverses rows itself, the second nothing of the rows after the second.
    No order shows that a model exchanges two rows if it has only two.
    """
    forward = list(range(rows))
    return [forward[::-1]] + ([[1, 0] + forward[2:]] if rows > 2 else [])


def _run_in_orders(
    model: Model, name: str, rows: int, dim: int, orders: Sequence[Sequence[int]]
) -> Optional[Tuple[Arrays, Arrays, List[Arrays]]]:
    """Return synthetic rows, the answers to them, and the answers to them in each of the orders.

    Returns None if the model refuses them.
    """
    for free in probe.FREE_SIZES:
        inputs = probe.generate(model.signatures[name], rows, dim, free, seed=0)
        try:
            answer = model.infer(inputs, (), name)
            return inputs, answer, [model.infer(_take(inputs, order, dim), (), name) for order in orders]
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            print("a trial run of %d rows failed: %s" % (rows, first_line(error)))
    return None


def _take(arrays: Arrays, order: Sequence[int], dim: int) -> Arrays:
    return {name: np.take(array, order, dim) for name, array in arrays.items()}
