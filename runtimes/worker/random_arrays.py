"""Random arrays without numpy.random, the import of which takes 6 MiB and 20 ms of every worker."""

from typing import Sequence

import numpy as np

# SplitMix64: the n-th number is n times _STEP, mixed by shifts and multiplications.
_STEP, _FIRST, _SECOND = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class Random:
    """Arrays that depend only on `seed` and on what was drawn before. The methods are those of numpy's RandomState.

    An array of no dimension is an array as well: arithmetic makes a number of it, which frameworks refuse.
    """

    def __init__(self, seed: int) -> None:
        self._seed = np.uint64(seed)
        self._drawn = 0

    def uniform(self, low: float, high: float, size: Sequence[int]) -> np.ndarray:
        """Return FP64 numbers, `low` <= number < `high`."""
        fractions = (self._bits(size) >> np.uint64(11)) * 2.0**-53
        return np.asarray(low + (high - low) * fractions)

    def randint(self, low: int, high: int, size: Sequence[int]) -> np.ndarray:
        """Return INT64 numbers, `low` <= number < `high`."""
        return np.asarray((self._bits(size) % np.uint64(high - low)).astype(np.int64) + low)

    def standard_normal(self, size: Sequence[int]) -> np.ndarray:
        """Return FP64 numbers, by Box and Muller's method."""
        radius = np.sqrt(-2 * np.log(1 - self.uniform(0, 1, size)))
        return np.asarray(radius * np.cos(self.uniform(0, 2 * np.pi, size)))

    def _bits(self, size: Sequence[int]) -> np.ndarray:
        count = int(np.prod(size))
        bits = np.arange(self._drawn + 1, self._drawn + 1 + count, dtype=np.uint64) * _STEP + self._seed
        self._drawn += count
        bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
        bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
        return (bits ^ (bits >> np.uint64(31))).reshape(size)
