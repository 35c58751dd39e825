"""How large a batch may be: what pays, and what a latency target leaves time for."""

import copy
from typing import Any, Dict

from runtimes.worker.cost import CostCurve

# A twentieth of the target is left for the way back to the client.
_WAY_BACK = 0.05
# Shorter batches cost no more than the work around them: nothing is learned of them where nothing has to be.
_SHORT_S = 0.001
# Requests of so many different shapes have a curve each; the others share one.
_MAX_CURVES = 64


class Sizing:
    """max_rows: the most of any batch. target: seconds from a request's arrival to its answer; 0: none.

    A key stands for requests that may share a batch: each has its own curve. While nothing is known of
    it, a model without a target gets full batches; one with a target starts small, and doubles.
    """

    def __init__(self, max_rows: int, target: float = 0.0) -> None:
        self.target = target
        self.way_back_s = target * _WAY_BACK
        self._max_rows = max_rows
        self._curves: Dict[Any, CostCurve] = {}
        self._before, self._shared = CostCurve(), CostCurve()

    def curve(self, key: Any) -> CostCurve:
        """What is known of this kind of batch. At first that is what was learned before the first request."""
        curve = self._curves.get(key)
        if curve is None:
            if len(self._curves) >= _MAX_CURVES:
                return self._shared
            curve = self._curves[key] = copy.deepcopy(self._before)
        return curve

    def learn(self, rows: int, seconds: float) -> None:
        """Before the first request: warming up took so long."""
        self._before.observe(rows, seconds)

    def ran(self, key: Any, rows: int, seconds: float) -> None:
        """A batch took so long, with all that belongs to it."""
        if self.target or seconds >= _SHORT_S:
            self.curve(key).observe(rows, seconds)

    def most(self, key: Any) -> int:
        """The most rows of a batch.

        With a target it takes at most half of it: who arrives when it starts waits for its end, and then runs.
        """
        curve = self.curve(key)
        return max(1, curve.best(self._allowed(curve)))

    def choose(self, key: Any) -> int:
        """As `most`, for a batch that is about to run: now and then another size is tried.

        With a target no smaller one: those come by themselves, and under load they would cost answers.
        """
        curve = self.curve(key)
        return max(1, curve.choose(self._allowed(curve), smaller=not self.target))

    def _allowed(self, curve: CostCurve) -> int:
        if not self.target:
            return self._max_rows
        tried = min(self._max_rows, max(1, 2 * curve.largest))
        return curve.rows_within((self.target - self.way_back_s) / 2, tried)

    def left(self, deadline: float, now: float) -> float:
        """How long a batch may take for its answers to be in time."""
        return deadline - now - self.way_back_s
