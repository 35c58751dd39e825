"""A small page shared by file: which requests a worker is running, how fast it is, and how many rows wait for it.

The supervisor reads it to find a hung batch. A front reads it after the worker died, to learn which of its requests
were in the running batch; ids are unique over all fronts. With a latency target, the worker publishes its pace and each
front its number of rows in progress, so that every front can predict which requests would be late.

Each field has one writer. There is no lock, so a reader may see a value that is slightly outdated or torn; readers must
tolerate both. After the worker's death the page does not change any more. A hostile model can write anything to it.
"""

import mmap
import os
import struct
from typing import FrozenSet, NamedTuple, Sequence, Tuple

SIZE = 64 * 1024
_SINCE = struct.Struct("<d")
_HEAD = struct.Struct("<dI")  # busy since (time.monotonic() seconds, 0 when idle), number of ids
_BEGUN = struct.Struct("<I")  # requests begun, modulo 2**32
_BEGUN_AT = 12
_IDS_AT = 16
_HEAD_AND_IDS = "<dII%dQ"
_BUSY = [struct.Struct(_HEAD_AND_IDS % count) for count in range(65)]  # for most batches, because formats take time
_PACE = struct.Struct("<IIddd")
_ROWS = struct.Struct("<I")
_SLOTS = 64  # more than the fronts of most gateways; further fronts share slots
_EVERY_SLOT = struct.Struct("<%dI" % _SLOTS)
_ROWS_AT = SIZE - _EVERY_SLOT.size
_PACE_AT = _ROWS_AT - _PACE.size
_AUDITS = struct.Struct("<QQ")
_AUDITS_AT = _PACE_AT - _AUDITS.size
_OVER_LIMIT = struct.Struct("<Q")
_OVER_LIMIT_AT = _AUDITS_AT - _OVER_LIMIT.size
_INVALID = struct.Struct("<Q")
_INVALID_AT = _OVER_LIMIT_AT - _INVALID.size
_MAX_IDS = (_INVALID_AT - _IDS_AT) // 8


class Pace(NamedTuple):
    """What a worker with a latency target expects of its batches. Durations are upper bounds in seconds.

    rows        rows in the running batch
    full_rows   rows in a full batch; 0 while nothing is known
    running_s   duration of the running batch
    full_s      duration of a full batch
    response_s  time that a response takes from the worker to the client
    """

    rows: int = 0
    full_rows: int = 0
    running_s: float = 0.0
    full_s: float = 0.0
    response_s: float = 0.0


class StatusPage:
    """The page at `path`, which `create` has made."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)
            self._file = os.fstat(file.fileno())
        self._begun = 0

    def drop_file(self) -> None:
        """Keep the page, but no descriptor of its file, for a process that runs a model.

        By a descriptor, a hostile model could shorten the file, and SIGBUS would end every process that reads the page.
        The mmap has one that it does not show, so that all are looked at.
        """
        null = os.open(os.devnull, os.O_RDWR)
        for name in os.listdir("/dev/fd"):
            try:
                if os.path.samestat(os.fstat(int(name)), self._file):
                    os.dup2(null, int(name), False)
            except OSError:
                pass  # the descriptor of the list itself
        os.close(null)

    def set_busy(self, ids: Sequence[int], now: float) -> None:
        count = len(ids)
        begun = self._begun = (self._begun + count) & 0xFFFFFFFF
        if count < len(_BUSY):
            _BUSY[count].pack_into(self._map, 0, now, count, begun, *ids)
        else:
            count = min(count, _MAX_IDS)
            struct.pack_into(_HEAD_AND_IDS % count, self._map, 0, now, count, begun, *ids[:count])

    def set_idle(self) -> None:
        _HEAD.pack_into(self._map, 0, 0.0, 0)

    def set_since(self, since: float) -> None:
        """Change when the running batch has started; 0.0 stops the clock of execution_timeout_s."""
        _SINCE.pack_into(self._map, 0, since)

    def busy_since(self) -> float:
        """Return when the running batch started, in time.monotonic() seconds; 0.0 if idle, or waiting for a call."""
        return _HEAD.unpack_from(self._map, 0)[0]

    def begun(self) -> int:
        """Return how many requests were begun, modulo 2**32. Those that run in pieces, or again, count each time."""
        return _BEGUN.unpack_from(self._map, _BEGUN_AT)[0]

    def running(self) -> FrozenSet[int]:
        _, count = _HEAD.unpack_from(self._map, 0)
        return frozenset(struct.unpack_from("<%dQ" % min(count, _MAX_IDS), self._map, _IDS_AT))

    def set_pace(self, pace: Pace) -> None:
        _PACE.pack_into(self._map, _PACE_AT, *pace)

    def pace(self) -> Pace:
        return Pace(*_PACE.unpack_from(self._map, _PACE_AT))

    def set_audits(self, runs: int, differences: int) -> None:
        """Publish how many requests were audited, and how many of them got a different answer."""
        _AUDITS.pack_into(self._map, _AUDITS_AT, runs, differences)

    def audits(self) -> Tuple[int, int]:
        return _AUDITS.unpack_from(self._map, _AUDITS_AT)

    def set_over_limit(self) -> None:
        """Publish that the worker is ended because it exceeds its memory limit. The supervisor does this before."""
        _OVER_LIMIT.pack_into(self._map, _OVER_LIMIT_AT, 1)

    def is_over_limit(self) -> bool:
        return bool(_OVER_LIMIT.unpack_from(self._map, _OVER_LIMIT_AT)[0])

    def set_invalid(self) -> None:
        """Publish that a front has lost its connection to the worker, so that the supervisor ends it if it is alive."""
        _INVALID.pack_into(self._map, _INVALID_AT, 1)

    def is_invalid(self) -> bool:
        return bool(_INVALID.unpack_from(self._map, _INVALID_AT)[0])

    def set_rows(self, front: int, rows: int) -> None:
        """Publish how many rows a front has in progress at this worker. Fronts equal modulo 64 share a slot."""
        _ROWS.pack_into(self._map, _ROWS_AT + front % _SLOTS * _ROWS.size, rows)

    def rows(self) -> int:
        """Return how many rows all fronts together have in progress."""
        return sum(_EVERY_SLOT.unpack_from(self._map, _ROWS_AT))

    def clear_rows(self) -> None:
        """Clear the rows of all fronts, because one that is not known here has gone. The others publish theirs again.

        Each does so with its next request. Until then, predictions are too optimistic.
        """
        _EVERY_SLOT.pack_into(self._map, _ROWS_AT, *([0] * _SLOTS))

    def close(self) -> None:
        self._map.close()


def create(path: str) -> None:
    """Raises OSError, also if the disk is full.

    The bytes are written: a page of a file that has no room on its disk ends whoever touches it, by SIGBUS.
    """
    with open(path, "wb") as file:
        file.write(bytes(SIZE))
