"""In which order the requests of several clients run: start-time fair queueing.

Each request gets a rank, and the lowest runs first. The rank of a request is where its client's previous one ends, in
rows, but not before the rank of what was served last. So a client that has many requests waiting gets ranks far ahead,
one that comes with its first request is next, and all that wait get the same number of rows in the long run. Fronts
order what waits there, and workers what waits there, which may come from several fronts.

A client is known by its flow, a number. The field `priority` of a request carries it together with the level.
"""

from typing import Dict, Tuple

LEVEL_BITS = 32
MAX_LEVEL = (1 << LEVEL_BITS) - 1
MAX_FLOW = (1 << 31) - 1
# Flows of one level that are remembered before those that have nothing waiting are looked for. A smaller number looks
# for them more often; a larger one takes more memory.
_MAX_IDLE_FLOWS = 1024


def priority_of(level: int, flow: int) -> int:
    """Return what the field `priority` carries. flow: 1 to MAX_FLOW; 0 if the client is not known."""
    return flow << LEVEL_BITS | level


def level_and_flow(priority: int) -> Tuple[int, int]:
    if priority <= MAX_LEVEL:
        return priority, 0
    return priority & MAX_LEVEL, priority >> LEVEL_BITS


class FairOrder:
    """Ranks are 0.0 as long as no client is known, so that requests run in the order of their arrival."""

    def __init__(self) -> None:
        # For each level, where each flow's last request ends, and the highest rank that was served.
        self._ends: Dict[int, Dict[int, float]] = {}
        self._served: Dict[int, float] = {}
        self._max_flows = _MAX_IDLE_FLOWS

    @property
    def is_active(self) -> bool:
        """Whether a client is known, so that ranks are not 0.0."""
        return bool(self._ends)

    def rank(self, level: int, flow: int, rows: int, under_way: int = 0) -> float:
        """Return the rank of a request, or of several that follow each other, with this many rows together.

        under_way: rows of the same client that did not have to wait, so that they got no rank, and still run.
        """
        ends = self._ends.get(level)
        if ends is None:
            if not flow:
                return 0.0
            ends = self._ends[level] = {}
        served, end = self._served.get(level, 1.0), ends.get(flow, 0.0)
        start = end if end > served else served + under_way
        ends[flow] = start + (rows or 1)
        if len(ends) > self._max_flows:
            self._ends[level] = ends = {flow: end for flow, end in ends.items() if end > served}
            self._max_flows = max(_MAX_IDLE_FLOWS, 2 * len(ends))
        return start

    def give_back(self, level: int, flow: int, rows: int) -> None:
        """Note that a request will not run: its client's next ones have lower ranks for it."""
        ends = self._ends.get(level)
        if ends is not None and flow in ends:
            ends[flow] -= rows or 1

    def served(self, level: int, rank: float) -> None:
        """Note that a request with this rank runs now."""
        if rank > self._served.get(level, 0.0):
            self._served[level] = rank
