"""What each identity uses, in one file that all fronts map.

A token bucket is one number here: the time.monotonic() seconds at which it is full again, which needs no update while
nothing is taken (the generic cell rate algorithm). Fronts that take from one bucket limit each other without messages,
and one that crashes leaves nothing behind. Requests in flight have a column per front, so that each cell has one
writer; when a front ends, the supervisor clears its column.

An identity has a slot, which is found by a hash of its name. The issuers of tokens choose names, so there may be more
of them than slots: a slot is given to another identity when it says nothing any more, because its buckets are full and
no request is in flight. Identities that find no slot share one: for them the quota is too strict, never too lax.

Only giving away slots and columns takes a lock, which the kernel releases if its holder dies. Without one, two fronts
that take from a bucket within the same microsecond may count one request instead of two.
"""

import errno
import fcntl
import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# Identities with counters of their own. More of them take more memory while they are active; with fewer, clients with
# tokens of many subjects share one quota sooner.
SLOTS: Final = 4096
# The cells of a slot: when each of its buckets is full, then the requests in flight of each front.
REQUESTS: Final = 0
BYTES: Final = 1
COMPUTE: Final = 2
IN_FLIGHT: Final = 3
STRIDE: Final = 72  # a multiple of a cache line

# The name of the page in the run directory of a gateway.
USAGE_FILE: Final = "usage"

_COLUMNS = 64  # the most fronts that a gateway may have
_OWNERS = 72  # one more than the number of each column's front, 0 for none; then how many columns were ever used
_USED = _COLUMNS
_SIZE = 8 * (_OWNERS + SLOTS * (1 + STRIDE))
_SHARED_SLOT = 0
_SHARED_KEY = (1 << 64) - 1


class UsagePage:
    """The page in the file at `path`, which is created if it is missing; without a path, one of this process alone.

    cells  STRIDE numbers for each slot
    keys   what the identity of each slot is found by
    """

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._path = path
        whole = memoryview(_map(path))
        keys_at, cells_at = 8 * _OWNERS, 8 * (_OWNERS + SLOTS)
        self._owners = whole[:keys_at].cast("Q")
        self.keys = whole[keys_at:cells_at].cast("Q")
        self.cells = whole[cells_at:].cast("d")
        self.keys[_SHARED_SLOT] = _SHARED_KEY

    @contextmanager
    def _lock(self) -> Iterator[None]:
        if self._path is None:
            yield
            return
        with self._path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield

    def join(self, front: int) -> int:
        """Return the column of a front, which it has until `leave`. `front` is its number."""
        with self._lock():
            column = self._owners.tolist().index(0)
            self._owners[column] = front + 1
            self._owners[_USED] = max(self._owners[_USED], column + 1)
            return column

    def leave(self, front: int) -> None:
        """Clear what a front that has ended had in flight, and free its column."""
        with self._lock():
            owners = self._owners[:_COLUMNS].tolist()
            for column in [column for column, owner in enumerate(owners) if owner == front + 1]:
                for cell in range(IN_FLIGHT + column, SLOTS * STRIDE, STRIDE):
                    if self.cells[cell]:
                        self.cells[cell] = 0.0
                self._owners[column] = 0

    @property
    def columns_used(self) -> int:
        """How many columns were ever used, the first ones."""
        return self._owners[_USED]

    def in_flight(self, start: int) -> float:
        """Return the requests in flight of all fronts, in the slot whose cells begin at `start`."""
        first = start + IN_FLIGHT
        return sum(self.cells[first : first + self._owners[_USED]])

    def claim(self, key: int) -> int:
        """Return the slot of an identity, whose cells are cleared if it is new. `key` has 64 bits, and is not 0."""
        with self._lock():
            keys = self.keys.tolist()
            if key in keys:
                return keys.index(key)
            slot = keys.index(0) if 0 in keys else self._unused_slot()
            if slot != _SHARED_SLOT:
                self.cells[slot * STRIDE : (slot + 1) * STRIDE] = _CLEAR
                self.keys[slot] = key
            return slot

    def _unused_slot(self) -> int:
        now = self.clock()
        for slot in range(1, SLOTS):
            cells = self.cells[slot * STRIDE : (slot + 1) * STRIDE].tolist()
            if max(cells[:IN_FLIGHT]) <= now and not any(cells[IN_FLIGHT:]):
                return slot
        return _SHARED_SLOT


def _map(path: Path | None) -> mmap.mmap:
    if path is None:
        return mmap.mmap(-1, _SIZE)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _allocate(file)
        return mmap.mmap(file, _SIZE)
    except OSError:
        path.unlink(missing_ok=True)  # nobody could map it
        raise
    finally:
        os.close(file)


def _allocate(file: int) -> None:
    """Give a file its size, unless it has it. Raises OSError if the disk is full.

    Without that, a page of the file that has no room on its disk would end whoever touches it, by SIGBUS.
    """
    try:
        os.posix_fallocate(file, 0, _SIZE)  # changes nothing that another front has written
    except AttributeError:  # macOS
        os.ftruncate(file, _SIZE)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(file, _SIZE)  # such a file system, or C library, cannot do it


_CLEAR = memoryview(bytes(8 * STRIDE)).cast("d")


def clear_front(path: Path, front: int) -> None:
    """Clear what a front that has ended had in flight, if any front has used the page."""
    if path.exists():
        UsagePage(path).leave(front)
