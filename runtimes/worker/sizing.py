"""Decides how large a batch may be, by its throughput and by the time that a latency target leaves."""

import copy
from typing import Any, Dict

from runtimes.worker.cost import CostCurve

# Share of the target that is reserved for the response on its way to the client (decision 0010). If it is too small,
# results that the worker counts as in time reach the client late; if it is too large, batches are smaller than needed.
_RESPONSE_SHARE = 0.05
# Without a target, shorter batches are not measured, and nothing is if a full one is usually shorter: they cost no more
# than the work around them, so that the noise in their durations says more about the machine than about the best size.
_SHORT_S = 0.001
# Shapes with a curve of their own; all others share one. Duration depends on the shape, for example on the length of a
# text, so the shared curve is a poor estimate. The limit bounds memory, since clients choose their shapes.
_MAX_CURVES = 64


class Sizing:
    """Batch sizes of a model, by key. Requests with equal keys may share a batch; each key has its own cost curve.

    max_rows: the limit for any batch. target: seconds from a request's arrival to its response; 0 if there is none.

    Before anything is known about a key, a model without a target runs full batches; one with a target starts with
    small batches and doubles them.
    """

    def __init__(self, max_rows: int, target: float = 0.0) -> None:
        self.target = target
        self.response_s = target * _RESPONSE_SHARE
        self._short_s = 0.0 if target else _SHORT_S
        self._max_rows = max_rows
        self._curves: Dict[Any, CostCurve] = {}
        self._seed, self._shared = CostCurve(self._short_s), CostCurve(self._short_s)

    def curve(self, key: Any) -> CostCurve:
        """Return the cost curve of this key, which starts as a copy of what warm-up has shown."""
        curve = self._curves.get(key)
        if curve is None:
            if len(self._curves) >= _MAX_CURVES:
                return self._shared
            curve = self._curves[key] = copy.deepcopy(self._seed)
        return curve

    def seed(self, rows: int, seconds: float) -> None:
        """Record the duration of a batch during warm-up, for all keys."""
        self._seed.observe(rows, seconds)

    def observe(self, key: Any, rows: int, seconds: float) -> None:
        """Record the duration of a batch, from its formation until its results were sent."""
        curve = self._curves.get(key) or self.curve(key)
        if self._short_s and 2 * rows >= self._max_rows:
            curve.count_full(seconds * self._max_rows >= self._short_s * rows)
        if not self._short_s or (curve.is_long and seconds >= self._short_s):
            curve.observe(rows, seconds)

    def max_batch_rows(self, key: Any) -> int:
        """Return the maximum number of rows in a batch.

        With a target, such a batch takes at most half of it, because a request that arrives when a batch starts waits
        for its end and then runs in the next one.
        """
        curve = self.curve(key)
        return max(1, curve.best_rows(self._allowed_rows(curve)))

    def choose_rows(self, key: Any) -> int:
        """Return the maximum for the batch that is about to run, which is occasionally another size to explore.

        With a target, no smaller sizes are explored: they occur anyway, and under load they would make requests late.
        """
        curve = self.curve(key)
        return max(1, curve.choose_rows(self._allowed_rows(curve), smaller=not self.target))

    def accepts(self, key: Any, rows: int) -> bool:
        """Return whether the batch that is about to run may have this many rows. If not, nothing was chosen for it."""
        if not (self.target or self.curve(key).has_choice):
            return rows <= self._max_rows
        if rows <= self.choose_rows(key):
            return True
        self.curve(key).take_back_choice()
        return False

    def _allowed_rows(self, curve: CostCurve) -> int:
        if not self.target:
            return self._max_rows
        tried = min(self._max_rows, max(1, 2 * curve.largest))
        return curve.rows_within((self.target - self.response_s) / 2, tried)

    def time_left(self, deadline: float, now: float) -> float:
        """Return how many seconds a batch may take for its results to reach the client by the deadline."""
        return deadline - now - self.response_s
