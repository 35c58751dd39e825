"""A small page, shared by file: what a worker is running, how fast it is, and what waits for it.

The supervisor reads it to find a hung batch; a front reads it after the worker died, to know
which requests were in the running batch. The ids are unique over all fronts. With a latency
target, the worker tells its pace here and each front what it has under way, so that every front
can tell what would come too late. Each field has one writer; who reads may see it a moment old.
"""

import mmap
import struct
from typing import FrozenSet, NamedTuple, Sequence, Tuple

SIZE = 64 * 1024
_HEAD = struct.Struct("<dI")  # busy since (time.monotonic() seconds, 0 when idle), number of ids
_IDS_AT = 16
_PACE = struct.Struct("<IIddd")
_ROWS = struct.Struct("<I")
_SLOTS = 64
_EVERY_SLOT = struct.Struct("<%dI" % _SLOTS)
_ROWS_AT = SIZE - _EVERY_SLOT.size
_PACE_AT = _ROWS_AT - _PACE.size
_AUDITS = struct.Struct("<QQ")
_AUDITS_AT = _PACE_AT - _AUDITS.size
_MAX_IDS = (_AUDITS_AT - _IDS_AT) // 8


class Pace(NamedTuple):
    """What a worker with a latency target expects of its batches.

    rows       of the batch that runs
    most       rows of a full batch; 0 while nothing is known
    seconds    that the running batch takes at the longest
    full_s     that a full one does
    way_back_s what an answer takes from there to the client, at the longest
    """

    rows: int = 0
    most: int = 0
    seconds: float = 0.0
    full_s: float = 0.0
    way_back_s: float = 0.0


class StatusPage:
    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)

    def set_busy(self, ids: Sequence[int], now: float) -> None:
        listed = ids[:_MAX_IDS]
        struct.pack_into("<%dQ" % len(listed), self._map, _IDS_AT, *listed)
        _HEAD.pack_into(self._map, 0, now, len(listed))

    def set_idle(self) -> None:
        _HEAD.pack_into(self._map, 0, 0.0, 0)

    def busy_since(self) -> float:
        """time.monotonic() seconds; 0.0 when idle."""
        return _HEAD.unpack_from(self._map, 0)[0]

    def running(self) -> FrozenSet[int]:
        _, count = _HEAD.unpack_from(self._map, 0)
        return frozenset(struct.unpack_from("<%dQ" % count, self._map, _IDS_AT))

    def set_pace(self, pace: Pace) -> None:
        _PACE.pack_into(self._map, _PACE_AT, *pace)

    def pace(self) -> Pace:
        return Pace(*_PACE.unpack_from(self._map, _PACE_AT))

    def set_audits(self, runs: int, differences: int) -> None:
        """How many requests have run again by themselves, and how many of them got another answer."""
        _AUDITS.pack_into(self._map, _AUDITS_AT, runs, differences)

    def audits(self) -> Tuple[int, int]:
        return _AUDITS.unpack_from(self._map, _AUDITS_AT)

    def set_rows(self, front: int, rows: int) -> None:
        """What a front has under way for this worker. Fronts of the same number modulo 64 share a slot."""
        _ROWS.pack_into(self._map, _ROWS_AT + front % _SLOTS * _ROWS.size, rows)

    def rows(self) -> int:
        """What all fronts have."""
        return sum(_EVERY_SLOT.unpack_from(self._map, _ROWS_AT))

    def clear_rows(self) -> None:
        """A front has gone, nobody knows which: those that live tell theirs anew with their next request."""
        _EVERY_SLOT.pack_into(self._map, _ROWS_AT, *([0] * _SLOTS))

    def close(self) -> None:
        self._map.close()


def create(path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(SIZE)
