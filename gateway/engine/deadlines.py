"""Tells when a request's time is over.

Most requests bring no deadline of their own and wait as long as the others of their model: one timer
serves all that wait equally long, since the first of them is always the next. A timer each would
cost as much as half of the engine.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Due(Protocol):
    """`deadline`: time.monotonic() seconds, which is what event loops count by."""

    id: int
    deadline: float


_Due = TypeVar("_Due", bound=Due)


class _Line(Generic[_Due]):
    """Those that wait equally long, in order of arrival."""

    __slots__ = ("armed", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[int, _Due] = {}
        self.armed = False


class Deadlines(Generic[_Due]):
    """`expire` is called, once, with each that is not removed before."""

    def __init__(self, expire: Callable[[_Due], None]) -> None:
        self._expire = expire
        self._lines: dict[float, _Line[_Due]] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def add(self, due: _Due, patience: float | None) -> None:
        """`patience`: how long it waits, in seconds, if others wait as long; None for a deadline of its own."""
        if patience is None:
            timer = asyncio.get_running_loop().call_at(due.deadline, self._expire, due)
            self._timers[due.id] = timer
            return
        line = self._lines.get(patience)
        if line is None:
            line = self._lines[patience] = _Line()
        line.waiting[due.id] = due
        if not line.armed:
            self._arm(line, due)

    def remove(self, due: _Due, patience: float | None) -> None:
        """Its time no longer matters."""
        if patience is not None:
            self._lines[patience].waiting.pop(due.id, None)
        elif timer := self._timers.pop(due.id, None):
            timer.cancel()

    def _arm(self, line: _Line[_Due], first: _Due) -> None:
        line.armed = True
        asyncio.get_running_loop().call_at(first.deadline, self._look, line)

    def _look(self, line: _Line[_Due]) -> None:
        line.armed = False
        now = asyncio.get_running_loop().time()
        late = []
        for due in line.waiting.values():
            if due.deadline > now:
                self._arm(line, due)
                break
            late.append(due)
        for due in late:
            if line.waiting.pop(due.id, None) is not None:  # else the end of another was its end too
                self._expire(due)
