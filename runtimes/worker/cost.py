"""What a batch costs: how long it takes against how many rows it has, learned from every batch that ran.

Cheap enough for every batch: a few microseconds.
"""

import bisect
from typing import List

# How much of a new measurement is believed: of the size that it was made with, and of all sizes together.
_SHAPE, _PACE = 0.15, 0.1
# A single measurement counts for no more than this multiple of what was expected: one outlier is not a trend.
_OUTLIER = 2.0
# The margin over the expected duration grows with each run that exceeds it, and shrinks with each that does
# not: it settles where so many runs are slower.
_SLOWER = 0.005
_STEP = 0.3
_MIN_MARGIN = 0.02
# A size is no better than a larger one unless it is better by so much, in as many runs: less is noise.
_BETTER = 1.07
_RUNS = 8
# One choice in so many is half of the best size as long as little is known of it; later, one in so many more is
# half or twice of it.
_TRY = 2
_TRY_AGAIN = 256
# Sizes above this are told apart by their three highest bits only, so that there are never many.
_EXACT = 16


class CostCurve:
    """Expected seconds by rows, between and beyond the sizes that have been seen.

    A size's duration is its own shape, slowly learned, times a pace that all sizes share and that is
    learned fast: what slows the machine slows them all, those too that have not run for long.
    """

    def __init__(self) -> None:
        self._sizes: List[int] = []  # ascending
        self._shape: List[float] = []
        self._runs: List[int] = []
        self._pace = 1.0
        self._margin = 0.25  # more than most models need: until that is known, too, answers must be in time
        self._asked = 0

    def __bool__(self) -> bool:
        """Whether anything is known yet."""
        return bool(self._sizes)

    @property
    def largest(self) -> int:
        """The largest size of which anything is known; 0 at first."""
        return self._sizes[-1] if self._sizes else 0

    def observe(self, rows: int, seconds: float) -> None:
        """One batch of so many rows took so long."""
        size = _told_apart(rows)
        seconds = max(seconds, 1e-9) * size / max(rows, 1)
        at = bisect.bisect_left(self._sizes, size)
        if at == len(self._sizes) or self._sizes[at] != size:
            shape = seconds / self._pace
            if self._sizes:
                shape = min(shape, _OUTLIER * self._shape_of(size))
            self._sizes.insert(at, size)
            self._shape.insert(at, shape)
            self._runs.insert(at, 1)
            return
        ratio = min(seconds / (self._shape[at] * self._pace), _OUTLIER)
        self._runs[at] += 1
        if self._runs[at] <= 3:
            # The first run of a size may set things up: the least of the first few is the truest.
            self._shape[at] *= min(ratio, 1.0)
            return
        self._shape[at] *= 1 + _SHAPE * (ratio - 1)
        self._pace *= 1 + _PACE * (ratio - 1)
        step = 1 if ratio > 1 + self._margin else -_SLOWER
        self._margin = max(self._margin * (1 + _STEP * step), _MIN_MARGIN)

    def expected(self, rows: int) -> float:
        """Seconds, in the middle; 0.0 while nothing is known."""
        return self._shape_of(rows) * self._pace if self._sizes else 0.0

    def slowest(self, rows: int) -> float:
        """Seconds that all but one run in two hundred stay within."""
        return self.expected(rows) * (1 + self._margin)

    def rows_within(self, seconds: float, most: int) -> int:
        """The most rows, up to `most`, whose slowest run takes no longer; 0 when not even one row does."""
        if self.slowest(most) <= seconds:
            return most
        low, high = 0, most  # `low` fits, `high` does not
        while high - low > 1:
            middle = (low + high) // 2
            if self.slowest(middle) <= seconds:
                low = middle
            else:
                high = middle
        return low

    def best(self, most: int) -> int:
        """The size that gets the most rows done per second: `most`, unless a smaller one is surely better."""
        if self._runs_of(most) < _RUNS:
            return most
        at = bisect.bisect_left(self._sizes, _told_apart(most))
        best, speed = most, _BETTER * most / self._shape_of(most)
        for size, shape, runs in zip(self._sizes[:at], self._shape, self._runs):
            if runs >= _RUNS and size > speed * shape:
                best, speed = size, size / shape
        return best

    def choose(self, most: int, smaller: bool = True) -> int:
        """The best size; now and then twice of it, or half if `smaller`: or nobody learns that this is better."""
        best = self.best(most)
        half = max(best // 2, 1)
        self._asked += 1
        if smaller and self._asked % _TRY == 0 and self._runs_of(half) < _RUNS <= self._runs_of(best):
            return half
        if self._asked % _TRY_AGAIN == 0:
            return half if smaller and self._asked % (2 * _TRY_AGAIN) == 0 else min(2 * best, most)
        return best

    def _runs_of(self, rows: int) -> int:
        size = _told_apart(rows)
        at = bisect.bisect_left(self._sizes, size)
        return self._runs[at] if at < len(self._sizes) and self._sizes[at] == size else 0

    def _shape_of(self, rows: int) -> float:
        """On straight lines between the sizes seen; beyond the last, on the line through the first and the last."""
        sizes, shape = self._sizes, self._shape
        right = bisect.bisect_left(sizes, rows)
        if right == 0:
            return shape[0]  # fewer rows than were ever seen: no cheaper, for all that is known
        left = right - 1
        if right == len(sizes):
            if left == 0:
                return shape[0] * rows / sizes[0]
            left, right = 0, left
        slope = (shape[right] - shape[left]) / (sizes[right] - sizes[left])
        return shape[right] + max(slope, 0.0) * (rows - sizes[right])


def _told_apart(rows: int) -> int:
    """The size under which a batch is filed: itself if small, else the nearest of four per doubling."""
    if rows <= _EXACT:
        return max(rows, 1)
    step = 1 << (rows.bit_length() - 3)
    return (rows + step // 2) // step * step
