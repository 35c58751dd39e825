"""The sequences that a worker runs: which there are, which row of a batch each has, and what the model remembers."""

import heapq
from typing import Dict, List, Optional, Union

from runtimes.worker.rows import Arrays

SequenceId = Union[int, str]  # 5 and "5" are two sequences


class Sequence:
    """A sequence that has begun and not ended.

    slot    the row of the batch that it has, if the strategy is "direct"; no other sequence has it
    states  by the name of the input; None before its first request has been answered
    staged  the states after the request that is running. They are kept if the request succeeds
    used    when it got its last request or answer, in time.monotonic() seconds
    busy    whether one of its requests runs
    """

    __slots__ = ("busy", "slot", "staged", "states", "used")

    def __init__(self, slot: int, now: float) -> None:
        self.slot, self.used, self.busy = slot, now, False
        self.states: Optional[Arrays] = None
        self.staged: Optional[Arrays] = None

    def settle(self, succeeded: bool, now: float) -> None:
        """Note that a request has run: keep its states, or those before it."""
        if succeeded:
            self.states = self.staged
        self.staged, self.used, self.busy = None, now, False


class Sequences:
    """The sequences by id; at most `capacity`. idle_timeout: seconds without a request after which a sequence ends."""

    def __init__(self, capacity: int, idle_timeout: float) -> None:
        self.capacity, self.idle_timeout = capacity, idle_timeout
        self._running: Dict[SequenceId, Sequence] = {}
        self._freed: List[int] = []  # slots below the highest one so far, as a heap
        self._next_slot = 0
        self._first_idle = 0.0  # a lower bound of the time at which a sequence ends if it gets no request

    def __len__(self) -> int:
        return len(self._running)

    def __getitem__(self, key: SequenceId) -> Sequence:
        return self._running[key]

    def get(self, key: SequenceId) -> Optional[Sequence]:
        return self._running.get(key)

    def begin(self, key: SequenceId, now: float) -> bool:
        """Return whether there is room for a sequence, which has begun then."""
        if len(self._running) >= self.capacity:
            return False
        if self._freed:
            slot = heapq.heappop(self._freed)
        else:
            slot, self._next_slot = self._next_slot, self._next_slot + 1
        self._running[key] = Sequence(slot, now)
        self._first_idle = min(self._first_idle, now + self.idle_timeout)
        return True

    def end(self, key: SequenceId) -> None:
        heapq.heappush(self._freed, self._running.pop(key).slot)

    def end_idle(self, now: float) -> None:
        """End those that have had no request for too long."""
        if self._first_idle > now:
            return
        for key in [key for key, each in self._running.items() if self.is_idle(each, now)]:
            self.end(key)
        self._first_idle = self.next_idle()

    def is_idle(self, sequence: Sequence, now: float) -> bool:
        return not sequence.busy and sequence.used + self.idle_timeout <= now

    def next_idle(self) -> float:
        """Return when the next sequence ends if it gets no request, in time.monotonic() seconds."""
        return min([each.used for each in self._running.values()], default=float("inf")) + self.idle_timeout

    @property
    def rows(self) -> int:
        """The rows of a batch in which each sequence has its slot."""
        return max([each.slot for each in self._running.values()], default=-1) + 1
