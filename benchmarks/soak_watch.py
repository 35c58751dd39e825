"""Memory, descriptors and threads of every process of a gateway over time, and whether they grow."""

import statistics
import time
from dataclasses import dataclass, field
from itertools import combinations

import psutil

from benchmarks.memory import Held, held, processes
from benchmarks.servers import Server

# The age from which a worker counts. What it holds while it loads says nothing about leaks.
_MIN_AGE_S = 8.0


@dataclass
class Watch:
    """`series`: name → (seconds since the start, Held). A worker has the name of the one it replaces."""

    server: Server
    began: float = field(default_factory=time.monotonic)
    series: dict[str, list[tuple[float, Held]]] = field(default_factory=dict)
    # pid → name of every process so far, to detect those that are left behind.
    pids: dict[int, str] = field(default_factory=dict)

    def sample(self) -> None:
        newest: dict[str, tuple[float, int]] = {}
        for pid, name in processes(self.server).items():
            self.pids[pid] = name
            try:
                started = psutil.Process(pid).create_time()
            except psutil.NoSuchProcess:
                continue
            if time.time() - started >= _MIN_AGE_S:
                newest[name] = max(newest.get(name, (0.0, 0)), (started, pid))
        for name, (_, pid) in newest.items():
            try:
                found = held(pid)
            except (OSError, KeyError):
                continue  # the process has just ended
            self.series.setdefault(name, []).append((time.monotonic() - self.began, found))

    def lives(self, name: str) -> int:
        """Return how many processes have had this name."""
        return sum(each == name for each in self.pids.values())


@dataclass(frozen=True)
class Trend:
    """The trend of one figure: medians of the first and last quarter of its points, and the rise over all of them."""

    first: float
    last: float
    rise: float
    hours: float

    @property
    def per_hour(self) -> float:
        return self.rise / self.hours


def trend(points: list[tuple[float, float]]) -> Trend:
    """Return the trend by Theil and Sen: the median slope of all pairs, which ignores outliers.

    points: at least two, in order.
    """
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2)]
    quarter = max(len(points) // 4, 1)
    span = points[-1][0] - points[0][0]
    return Trend(
        statistics.median(value for _, value in points[:quarter]),
        statistics.median(value for _, value in points[-quarter:]),
        statistics.median(slopes) * span,
        span / 3600,
    )
