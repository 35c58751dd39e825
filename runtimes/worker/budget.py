"""The time that audits may take: a share of what the model computes, less what they have taken.

Time is the lesser of the wall clock's and the process's CPU time. On a busy machine a batch that waited for a core
took long by the one and computed little; by the other, a pool of threads computes many seconds in one.
"""

import time
from contextlib import contextmanager
from typing import Callable, Iterator

# What looking at a batch costs, clocks included. Measured, with caches that the model has just emptied.
_LOOK_S = 5e-6


class Budget:
    """share: 0 to 1; with 0 nothing is ever affordable.

    wall, cpu: clocks, in seconds. They are read where something is paid, or seems affordable.
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
        self._left = 0.0  # seconds; below 0 after something that took longer than expected
        self._promised = 0.0  # seconds, by the wall clock, since the CPU time was `_since`
        self._since = cpu()

    def earn(self, seconds: float) -> None:
        """The model has computed for so long, by the wall clock, since it was last looked at."""
        earned = self.share * seconds
        # At least half is left: audits of a model that takes microseconds shall not cease.
        self._promised += max(earned - _LOOK_S, earned / 2)

    def affords(self, seconds: float) -> bool:
        if self._left >= seconds:
            return self.share > 0
        if self._left + self._promised < seconds or not self.share:
            return False
        now = self._cpu()
        self._left += min(self._promised, self.share * (now - self._since))
        self._promised, self._since = 0.0, now
        return self._left >= seconds

    @contextmanager
    def paid(self) -> Iterator[None]:
        """What is done inside is paid."""
        wall, cpu = self._wall(), self._cpu()
        try:
            yield
        finally:
            ended = self._cpu()
            self._left -= min(self._wall() - wall, ended - cpu) + _LOOK_S  # and the clocks
            self._since += ended - cpu  # an audit earns nothing

    @property
    def left(self) -> float:
        """Seconds, without what has been promised since they were last asked for."""
        return self._left
