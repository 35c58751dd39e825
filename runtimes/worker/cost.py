"""Learns what a batch costs: its duration as a function of its rows, from every batch that runs.

An observation takes a few microseconds, so that every batch can afford one.

The constants are choices of design, not of theory. Together they meet the goals of decision 0010 in simulated time
(`benchmarks/slo_simulation.py`: five cost curves, jitter of 15 %, drift of 30 %); run it after changing one.
"""

import bisect
from typing import List

# Weights of a new measurement in the exponential averages: of its size's shape, and of the pace that all sizes share.
# An average follows most of a change within ten runs. Larger weights follow faster but let noise into the estimates,
# which makes batch sizes jump; smaller ones keep an estimate wrong for longer after the model's speed has changed.
_SHAPE_WEIGHT, _PACE_WEIGHT = 0.15, 0.1
# A measurement counts as at most this multiple of the expected duration, because one outlier is not a trend. A larger
# limit lets a single stall make the worker refuse requests; a smaller one delays learning that the model is slower.
_MAX_RATIO = 2.0
# The margin over the expected duration grows by _MARGIN_STEP with each run that exceeds it, and shrinks by _MARGIN_STEP
# times _EXCEEDED_SHARE with each other run. It is therefore stable when about one run in two hundred exceeds it, which
# leaves room within the goal that 99 % of the admitted requests are answered in time. A larger share makes more of them
# late; a smaller one widens the margin, so that batches are smaller and more requests are refused. A larger step reacts
# faster, and overshoots more.
_EXCEEDED_SHARE = 0.005
_MARGIN_STEP = 0.3
# The margin never becomes smaller, since growth is relative: from near zero it would take many late batches to recover.
_MIN_MARGIN = 0.02
# A smaller size replaces a larger one only if its throughput is higher by this factor, in at least this many runs of
# both. With lower values, noise makes sizes look better than they are; with higher ones, real gains are not used.
_MIN_GAIN = 1.07
_MIN_RUNS = 8
# Every second batch tries half of the best size until _MIN_RUNS of it are known, which takes 16 batches. After that,
# one batch in 256 tries half or twice the best size. Trying more often costs throughput, less often finds a changed
# optimum later.
_EXPLORE_UNKNOWN_EVERY = 2
_EXPLORE_KNOWN_EVERY = 256
# Full batches are long if this many more of them were long than short, of at most twice as many that count. A single
# batch that waited for a core says nothing about the model; a larger number learns later that it has become slow.
_MIN_LONG = 8
# Sizes above this share buckets, four per doubling. A size is off by 12 % at most, and the lists stay short. Smaller
# sizes have a bucket each, because there a single row matters.
_MAX_EXACT_ROWS = 16


class CostCurve:
    """The expected duration of a batch by its rows, interpolated between and extrapolated beyond the sizes observed.

    The duration of a size is its shape times a pace. Each size has its own shape. All sizes share the pace, because
    whatever slows the machine slows all of them, including those that have not run for a while.
    """

    def __init__(self, shortest_s: float = 0.0) -> None:
        """shortest_s: shorter batches are not observed, so half of a batch is not tried if it would be one."""
        self._shortest_s = shortest_s
        self._sizes: List[int] = []  # ascending
        self._shape: List[float] = []
        self._runs: List[int] = []
        self._pace = 1.0
        self._margin = 0.25  # more than most models need, because answers must be in time before the margin is known
        self.has_choice = False  # whether there is anything to compare, so that `choose_rows` may not return the limit
        self.is_long = False  # whether full batches usually take long enough to compare sizes
        self._choices = 0
        self._observed = 0
        self._long = 0  # how many more full batches were long than short, 0 to 2 * _MIN_LONG

    def __bool__(self) -> bool:
        """Return whether a batch has been observed."""
        return bool(self._sizes)

    def count_full(self, is_long: bool) -> None:
        """Count a batch that is at least half full, before it is observed. Choices are made only while they matter."""
        if is_long:
            self._long += self._long < 2 * _MIN_LONG
            self.is_long = self._long >= _MIN_LONG
        elif self._long:
            self._long -= 1
            self.is_long = self._long >= _MIN_LONG
            if not self.is_long:
                self.has_choice = False

    @property
    def largest(self) -> int:
        """The largest size observed; 0 at first."""
        return self._sizes[-1] if self._sizes else 0

    def observe(self, rows: int, seconds: float) -> None:
        """Record the duration of one batch."""
        self._observed += 1
        self.has_choice = self._observed >= _MIN_RUNS
        size = bucket_of(rows)
        seconds = max(seconds, 1e-9) * size / max(rows, 1)
        index = bisect.bisect_left(self._sizes, size)
        if index == len(self._sizes) or self._sizes[index] != size:
            shape = seconds / self._pace
            if self._sizes:
                shape = min(shape, _MAX_RATIO * self._shape_of(size))
            self._sizes.insert(index, size)
            self._shape.insert(index, shape)
            self._runs.insert(index, 1)
            return
        ratio = min(seconds / (self._shape[index] * self._pace), _MAX_RATIO)
        self._runs[index] += 1
        if self._runs[index] <= 3:
            # The first runs of a size may include one-time setup, so the fastest of three is used.
            self._shape[index] *= min(ratio, 1.0)
            return
        self._shape[index] *= 1 + _SHAPE_WEIGHT * (ratio - 1)
        self._pace *= 1 + _PACE_WEIGHT * (ratio - 1)
        step = 1 if ratio > 1 + self._margin else -_EXCEEDED_SHARE
        self._margin = max(self._margin * (1 + _MARGIN_STEP * step), _MIN_MARGIN)

    def expected(self, rows: int) -> float:
        """Return the mean duration in seconds; 0.0 before the first observation."""
        return self._shape_of(rows) * self._pace if self._sizes else 0.0

    def upper_bound(self, rows: int) -> float:
        """Return the duration in seconds that all but about one run in two hundred stay within."""
        return self.expected(rows) * (1 + self._margin)

    def rows_within(self, seconds: float, limit: int) -> int:
        """Return the largest number of rows, up to `limit`, with an upper bound of at most `seconds`; 0 if none has."""
        if self.upper_bound(limit) <= seconds:
            return limit
        low, high = 0, limit  # `low` fits, `high` does not
        while high - low > 1:
            middle = (low + high) // 2
            if self.upper_bound(middle) <= seconds:
                low = middle
            else:
                high = middle
        return low

    def best_rows(self, limit: int) -> int:
        """Return the size with the highest throughput: `limit`, unless a smaller one is reliably better."""
        if self._runs_of(limit) < _MIN_RUNS:
            return limit
        index = bisect.bisect_left(self._sizes, bucket_of(limit))
        best_rows, speed = limit, _MIN_GAIN * limit / self._shape_of(limit)
        for size, shape, runs in zip(self._sizes[:index], self._shape, self._runs):
            if runs >= _MIN_RUNS and size > speed * shape:
                best_rows, speed = size, size / shape
        return best_rows

    def choose_rows(self, limit: int, smaller: bool = True) -> int:
        """Return the best size, or occasionally another one to explore: twice its rows or, if `smaller`, half."""
        if not self.has_choice:
            return limit  # for example because batches are too short
        best_rows = self.best_rows(limit)
        half = max(best_rows // 2, 1)
        smaller = smaller and self.expected(best_rows) >= 2 * self._shortest_s
        self._choices += 1
        if (
            smaller
            and self._choices % _EXPLORE_UNKNOWN_EVERY == 0
            and self._runs_of(half) < _MIN_RUNS <= self._runs_of(best_rows)
        ):
            return half
        if self._choices % _EXPLORE_KNOWN_EVERY == 0:
            return half if smaller and self._choices % (2 * _EXPLORE_KNOWN_EVERY) == 0 else min(2 * best_rows, limit)
        return best_rows

    def take_back_choice(self) -> None:
        """Have `choose_rows` choose again what it has just chosen, because it was not used."""
        self._choices = max(0, self._choices - 1)  # 0 as long as there was nothing to choose

    def _runs_of(self, rows: int) -> int:
        size = bucket_of(rows)
        index = bisect.bisect_left(self._sizes, size)
        return self._runs[index] if index < len(self._sizes) and self._sizes[index] == size else 0

    def _shape_of(self, rows: int) -> float:
        """Interpolate linearly between the sizes observed; extrapolate on the line through the first and the last."""
        sizes, shape = self._sizes, self._shape
        right = bisect.bisect_left(sizes, rows)
        if right == 0:
            return shape[0]  # fewer rows than any observed batch; nothing shows that they are cheaper
        left = right - 1
        if right == len(sizes):
            if left == 0:
                return shape[0] * rows / sizes[0]
            left, right = 0, left
        slope = (shape[right] - shape[left]) / (sizes[right] - sizes[left])
        return shape[right] + max(slope, 0.0) * (rows - sizes[right])


def bucket_of(rows: int) -> int:
    """Return the size that represents this number of rows: itself if small, else the nearest of four per doubling."""
    if rows <= _MAX_EXACT_ROWS:
        return max(rows, 1)
    step = 1 << (rows.bit_length() - 3)
    return (rows + step // 2) // step * step
