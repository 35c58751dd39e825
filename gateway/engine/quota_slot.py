"""One identity's counters on the page that all fronts share: what its quota allows, and what it has used."""

import math

from gateway.domain.quota import Quota
from gateway.engine.tally import Tally
from gateway.errors import QuotaExceeded
from gateway.process.usage_page import BYTES, COMPUTE, IN_FLIGHT, REQUESTS, STRIDE, UsagePage

# Clocks of processes on one machine agree, but sums of floats are inexact.
_EPSILON_S = 1e-6
_MINUTE_S = 60.0
# How often an identity without a slot of its own looks for one. More often takes more time, which is milliseconds if
# all are in use.
_SEARCH_S = 1.0
# A front takes in advance what comes in during this time, if no less than half of the bucket is left. Longer makes the
# page cost less per request, and limits less exact.
LEASE_S = 0.01
_MAX_PERMITS = 1000
# Of the requests in flight that are left, fronts together may admit this share without looking at the page.
_IN_FLIGHT_SHARE = 0.1


class QuotaSlot:
    """Raises QuotaExceeded for what exceeds the quota. Each method takes some microseconds."""

    __slots__ = (
        "_bytes", "_cells", "_column", "_compute", "_in_flight", "_key", "_keys", "_page", "_quota", "_requests",
        "_requests_window", "_searched_at", "_slot", "_start", "_tally",
    )  # fmt: skip

    def __init__(self, key: int, page: UsagePage, column: int, tally: Tally) -> None:
        """`column` is this front's; see UsagePage for both arguments of it. `tally` counts the requests in flight."""
        self._key, self._page, self._column, self._tally = key, page, column, tally
        self._cells, self._keys = page.cells, page.keys
        self._slot = self._start = 0
        self._searched_at = -math.inf
        self._place()

    def configure(self, quota: Quota) -> None:
        """Apply a quota. What was used before counts against it."""
        self._quota = quota
        # Of each bucket, the seconds in which one unit comes in; 0 if there is no limit.
        self._requests = 1.0 / quota.requests_per_second if quota.requests_per_second else 0.0
        self._requests_window = self._requests * quota.largest_burst + _EPSILON_S
        self._bytes = 1.0 / quota.bytes_per_second if quota.bytes_per_second else 0.0
        self._compute = _MINUTE_S / quota.compute_seconds_per_minute if quota.compute_seconds_per_minute else 0.0
        self._in_flight = quota.in_flight or 0
        self._tally.counts_in_flight = bool(self._in_flight)

    @property
    def unflushed_s(self) -> float:
        """The compute time that a front may owe: what comes in during a lease; inf if it is not limited."""
        return LEASE_S / self._compute if self._compute else math.inf

    def check(self, size: int, now: float) -> None:
        """Raise QuotaExceeded if a bucket does not have what a request of `size` bytes takes."""
        self._find_slot(now)
        cells, start, quota = self._cells, self._start, self._quota
        if self._requests:
            late = cells[start + REQUESTS] + self._requests - now - self._requests_window
            if late > 0:
                raise _exceeded(
                    "requests_per_second", f"{counted(quota.requests_per_second, 'request')} per second", late
                )
        if self._bytes:
            # A request with more bytes than come in during a second needs a full bucket, and leaves a debt.
            late = cells[start + BYTES] + min(size * self._bytes, 1.0) - now - 1.0 - _EPSILON_S
            if late > 0:
                raise _exceeded(
                    "bytes_per_second", f"{counted(quota.bytes_per_second, 'byte')} of input per second", late
                )
        if self._compute:
            late = cells[start + COMPUTE] - now - _MINUTE_S
            if late >= 0:
                seconds = counted(quota.compute_seconds_per_minute, "second")
                raise _exceeded("compute_seconds_per_minute", f"{seconds} of compute time per minute", late)

    def take(self, size: int, now: float) -> None:
        """Count a request. Raises QuotaExceeded, with nothing counted."""
        self.check(size, now)
        if self._in_flight:
            self._count_in_flight()
        self._add(REQUESTS, self._requests, now)
        self._add(BYTES, size * self._bytes, now)

    def hold(self, now: float) -> None:
        """Count a request that waits as one in flight. Raises QuotaExceeded, with nothing counted."""
        self._find_slot(now)
        self._count_in_flight()

    def _count_in_flight(self) -> None:
        # Counted before it is compared, so that two fronts cannot both take the last one.
        self._tally.count(1)
        if self._page.in_flight(self._start) > self._in_flight:
            self._tally.count(-1)
            raise _exceeded("in_flight", f"{counted(self._in_flight, 'request')} in flight", 0.0)

    def lend(self, now: float) -> tuple[int, float]:
        """Take in advance what limits far away allow: the requests, and their bytes, until LEASE_S from now."""
        permits, size = _MAX_PERMITS, math.inf
        if self._in_flight:
            free, fronts = self._in_flight - self._page.in_flight(self._start), self._page.columns_used
            permits = min(permits, int(free if fronts == 1 else free * _IN_FLIGHT_SHARE / fronts))
        if self._requests:
            left_s = self._requests_window - max(self._cells[self._start + REQUESTS] - now, 0.0)
            permits = min(permits, int(min(LEASE_S, left_s - self._requests_window / 2) / self._requests))
        if self._bytes:
            left_s = 1.0 - max(self._cells[self._start + BYTES] - now, 0.0)
            size = LEASE_S / self._bytes if left_s - LEASE_S > 0.5 else 0.0
        if permits <= 0 or not size:
            return 0, 0.0
        self._add(REQUESTS, permits * self._requests, now)
        if self._bytes:
            self._add(BYTES, size * self._bytes, now)
        return permits, size

    def give_back(self, permits: int, size: float) -> None:
        """Give back what was lent and not used."""
        self._cells[self._start + REQUESTS] -= permits * self._requests
        if self._bytes:
            self._cells[self._start + BYTES] -= size * self._bytes

    def charge(self, seconds: float, now: float) -> None:
        """Count compute time."""
        self._find_slot(now)
        self._add(COMPUTE, seconds * self._compute, now)

    def _place(self) -> None:
        # The slot of those that found none has more than this identity.
        self._tally.place(self._cells, self._start + IN_FLIGHT + self._column, bool(self._slot))

    def _add(self, bucket: int, seconds: float, now: float) -> None:
        if seconds:
            cell = self._start + bucket
            self._cells[cell] = max(self._cells[cell], now) + seconds

    def _find_slot(self, now: float) -> None:
        """Find this identity's slot, if it was given to another or there was none."""
        if self._keys[self._slot] == self._key or (not self._slot and now - self._searched_at < _SEARCH_S):
            return
        self._searched_at = now
        in_flight = self._tally.counted
        if in_flight:
            self._tally.count(-in_flight)
        self._slot = self._page.claim(self._key)
        self._start = self._slot * STRIDE
        self._place()
        if in_flight:
            self._tally.count(in_flight)


def counted(number: float | None, what: str) -> str:
    return f"{number:g} {what}{'s' if number != 1 else ''}"


def _exceeded(limit: str, what: str, retry_after_s: float) -> QuotaExceeded:
    """Return the error, which is raised by the caller: a variable with an error, where it is raised, is a cycle."""
    error = QuotaExceeded("", limit, retry_after_s)
    when = f"in {error.retry_after_s} s" if retry_after_s else "when one of them has ended"
    error.args = (f"your limit of {what} is reached; try again {when}",)
    return error
