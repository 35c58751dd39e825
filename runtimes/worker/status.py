"""A small page, shared by file, on which a worker says what it is running and since when.

The supervisor reads it to find a hung batch; a front reads it after the worker died, to know
which requests were in the running batch. The ids are unique over all fronts.
"""

import mmap
import struct
from typing import FrozenSet, Sequence

SIZE = 64 * 1024
_HEAD = struct.Struct("<dI")  # busy since (time.monotonic() seconds, 0 when idle), number of ids
_IDS_AT = 16
_MOST = (SIZE - _IDS_AT) // 8


class StatusPage:
    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)

    def set_busy(self, ids: Sequence[int], now: float) -> None:
        listed = ids[:_MOST]
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

    def close(self) -> None:
        self._map.close()


def create(path: str) -> None:
    with open(path, "wb") as file:
        file.truncate(SIZE)
