"""The time that audits may use: a share of the model's compute time, minus what they have used.

Time is the smaller of wall time and the process's CPU time. Wall time alone would be wrong on a busy machine, where a
batch waits for a core and computes little. CPU time alone would be wrong for models with a pool of threads, which use
many CPU seconds per second.
"""

import time
from contextlib import contextmanager
from typing import Callable, Iterator

# Seconds that looking at a batch costs, reading the clocks included: measured, with CPU caches that the model has just
# evicted. If this is too low, audits exceed their share; if it is too high, they use less than they may.
_LOOK_S = 5e-6


class Budget:
    """A budget of seconds.

    share: 0 to 1; with 0, nothing is ever affordable. wall, cpu: clocks in seconds, which are read only when time is
    spent or seems affordable, because reading them costs time as well.
    """

    def __init__(
        self,
        share: float,
        wall: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self.share = share
        self._wall = wall
        self._cpu = cpu
        self._left = 0.0  # seconds; negative after something took longer than expected
        self._unverified = 0.0  # seconds earned by wall time since CPU time was `_verified_at`
        self._verified_at = cpu()

    def earn(self, seconds: float) -> None:
        """Add the budget's share of these seconds, for which the model has computed by wall time."""
        earned = self.share * seconds
        # Half is earned in any case, so that a model that takes microseconds is audited as well.
        self._unverified += max(earned - _LOOK_S, earned / 2)

    def affords(self, seconds: float) -> bool:
        """Return whether this much time is left."""
        if self._left >= seconds:
            return self.share > 0
        if self._left + self._unverified < seconds or not self.share:
            return False
        now = self._cpu()
        self._left += min(self._unverified, self.share * (now - self._verified_at))
        self._unverified, self._verified_at = 0.0, now
        return self._left >= seconds

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Deduct the time that the block takes."""
        wall, cpu = self._wall(), self._cpu()
        try:
            yield
        finally:
            ended = self._cpu()
            self._left -= min(self._wall() - wall, ended - cpu) + _LOOK_S  # the clocks cost as much as a look
            self._verified_at += ended - cpu  # the CPU time of audits earns nothing

    @property
    def left(self) -> float:
        """Seconds left, without those earned since CPU time was last checked."""
        return self._left
