"""Counts what identities use, and refuses what exceeds their quotas or leaves no room for other identities."""

import math
import time
from collections.abc import Callable
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from weakref import WeakValueDictionary

from gateway.domain.quota import UNLIMITED, Quota
from gateway.engine.admission import AdmissionController
from gateway.engine.identity_metrics import IdentityMetrics
from gateway.errors import Overloaded, QuotaExceeded
from gateway.process.usage_page import BYTES, COMPUTE, IN_FLIGHT, REQUESTS, STRIDE, UsagePage
from runtimes.fair_order import MAX_FLOW

# Clocks of processes on one machine agree, but sums of floats are inexact.
_EPSILON_S = 1e-6
_MINUTE_S = 60.0
# How often an identity without a slot of its own looks for one. More often takes more time, which is milliseconds if
# all are in use.
_SEARCH_S = 1.0


class IdentityUsage:
    """The gateway.domain.quota.Usage of everyone with the same name in this front.

    requests, bytes  in progress in this front; bytes include those of bodies that are being received
    flow             the number by which queues distinguish identities (runtimes/fair_order.py)
    """

    __slots__ = (
        "__weakref__", "_bytes", "_cells", "_column", "_compute", "_counted", "_counts", "_in_flight", "_is_limited",
        "_key", "_keys", "_now", "_page", "_requests", "_requests_window", "_searched_at", "_slot", "_start", "_usages",
        "bytes", "flow", "quota", "requests",
    )  # fmt: skip

    def __init__(self, name: str, quota: Quota, usages: "Usages") -> None:
        digest = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
        self._key, self.flow = digest or 1, digest % MAX_FLOW + 1
        self.requests = self.bytes = 0
        self._usages, self._now, self._counts = usages, usages.clock, usages.metrics.of(name)
        self._slot = self._start = 0
        self._searched_at = -math.inf
        self._counted = 0  # the requests in this front's cell of the slot that are of this identity
        self.configure(quota)

    def configure(self, quota: Quota) -> None:
        """Apply another quota. What was used before counts against it."""
        self.quota = quota
        self._is_limited = quota != UNLIMITED
        # Of each bucket, the seconds in which one unit comes in; 0 if there is no limit.
        self._requests = 1.0 / quota.requests_per_second if quota.requests_per_second else 0.0
        self._requests_window = self._requests * quota.largest_burst + _EPSILON_S
        self._bytes = 1.0 / quota.bytes_per_second if quota.bytes_per_second else 0.0
        self._compute = _MINUTE_S / quota.compute_seconds_per_minute if quota.compute_seconds_per_minute else 0.0
        self._in_flight = quota.in_flight or 0
        if self._is_limited:
            self._page, self._column = self._usages.page, self._usages.column
            self._cells, self._keys = self._page.cells, self._page.keys

    def reserve(self, size: int, already_reserved: int) -> None:
        """See gateway.domain.quota.Usage."""
        try:
            self._check_body(size, already_reserved)
        except Overloaded as error:
            self._count_refused(error)
            raise
        self.bytes += size

    def _check_body(self, size: int, already_reserved: int) -> None:
        if self._is_limited:
            self._check(already_reserved + size, self._now())
        admission, others = self._usages.admission, self.bytes - already_reserved
        if (
            others
            and self._usages.has_several
            and others > admission.limits.max_bytes - admission.admitted_bytes - size
        ):
            self._refuse_share(_count(others, "byte"))

    def unreserve(self, size: int) -> None:
        """See gateway.domain.quota.Usage."""
        self.bytes -= size

    def admit(self, size: int) -> None:
        """See gateway.domain.quota.Usage."""
        try:
            self._admit(size)
        except Overloaded as error:
            self._count_refused(error)
            raise

    def admits(self, size: int) -> bool:
        """See gateway.domain.quota.Usage."""
        try:
            self._admit(size)
        except Overloaded:
            return False
        return True

    def _admit(self, size: int) -> None:
        usages = self._usages
        if usages.has_several:
            # Both already count this request.
            admission, limits = usages.admission, usages.admission.limits
            if self.requests > limits.max_requests - admission.requests:
                self._refuse_share(_count(self.requests, "request"))
            if self.bytes and self.bytes > limits.max_bytes - admission.admitted_bytes:
                self._refuse_share(_count(self.bytes, "byte"))
        if self._is_limited:
            self._take(size)
        self.requests += 1
        self.bytes += size
        counts = self._counts
        counts.requests += 1
        counts.input_bytes += size

    def end(self, size: int) -> None:
        """See gateway.domain.quota.Usage."""
        self.requests -= 1
        self.bytes -= size
        if self._counted:
            self._count(-1)

    def charge(self, seconds: float) -> None:
        """See gateway.domain.quota.Usage."""
        self._counts.compute_s += seconds
        if self._compute:
            now = self._now()
            self._find_slot(now)
            cell = self._start + COMPUTE
            self._cells[cell] = max(self._cells[cell], now) + seconds * self._compute

    def _take(self, size: int) -> None:
        """Count a request against the quota. Raises QuotaExceeded, with nothing counted."""
        now = self._now()
        self._check(size, now)
        cells, start = self._cells, self._start
        if self._in_flight:
            # Counted before it is compared, so that two fronts cannot both take the last one.
            self._count(1)
            if self._page.in_flight(start) > self._in_flight:
                self._count(-1)
                self._refuse("in_flight", f"{_count(self._in_flight, 'request')} in flight", 0.0)
        if self._requests:
            cells[start + REQUESTS] = max(cells[start + REQUESTS], now) + self._requests
        if self._bytes:
            cells[start + BYTES] = max(cells[start + BYTES], now) + size * self._bytes

    def _check(self, size: int, now: float) -> None:
        """Raise QuotaExceeded if a bucket does not have what a request of `size` bytes takes."""
        self._find_slot(now)
        cells, start, quota = self._cells, self._start, self.quota
        if self._requests:
            late = cells[start + REQUESTS] + self._requests - now - self._requests_window
            if late > 0:
                self._refuse("requests_per_second", f"{_count(quota.requests_per_second, 'request')} per second", late)
        if self._bytes:
            # A request with more bytes than come in during a second needs a full bucket, and leaves a debt.
            late = cells[start + BYTES] + min(size * self._bytes, 1.0) - now - 1.0 - _EPSILON_S
            if late > 0:
                self._refuse("bytes_per_second", f"{_count(quota.bytes_per_second, 'byte')} of input per second", late)
        if self._compute:
            late = cells[start + COMPUTE] - now - _MINUTE_S
            if late >= 0:
                seconds = _count(quota.compute_seconds_per_minute, "second")
                self._refuse("compute_seconds_per_minute", f"{seconds} of compute time per minute", late)

    def _count(self, more: int) -> None:
        self._counted += more
        self._cells[self._start + IN_FLIGHT + self._column] += more

    def _find_slot(self, now: float) -> None:
        """Find this identity's slot, if it was given to another or there was none."""
        if self._keys[self._slot] == self._key or (not self._slot and now - self._searched_at < _SEARCH_S):
            return
        self._searched_at = now
        counted = self._counted
        if counted:
            self._count(-counted)
        self._slot = self._page.claim(self._key)
        self._start = self._slot * STRIDE
        if counted:
            self._count(counted)

    def _count_refused(self, error: Overloaded) -> None:
        self._counts.count_refused(error.limit if isinstance(error, QuotaExceeded) else "share")

    def _refuse(self, limit: str, what: str, retry_after_s: float) -> None:
        error = QuotaExceeded("", limit, retry_after_s)
        when = f"in {error.retry_after_s} s" if retry_after_s else "when one of them has ended"
        error.args = (f"your limit of {what} is reached; try again {when}",)
        raise error

    def _refuse_share(self, what: str) -> None:
        raise Overloaded(f"your share of the gateway's limit is used up by {what} in progress; try again later")


def _count(number: float | None, what: str) -> str:
    return f"{number:g} {what}{'s' if number != 1 else ''}"


class Usages:
    """The usage of each identity in one front.

    page         opened when the first identity has a quota
    has_several  whether there are several identities, so that none may take all of the room
    """

    def __init__(
        self,
        admission: AdmissionController,
        path: Path | None = None,
        front: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`path` is that of the page which all fronts share; None if there is only this one."""
        self.admission, self.clock = admission, clock
        self.metrics = IdentityMetrics()
        self.has_several = False
        self._path, self._front = path, front
        self._known: WeakValueDictionary[str, IdentityUsage] = WeakValueDictionary()

    @cached_property
    def page(self) -> UsagePage:
        return UsagePage(self._path, self.clock)

    @cached_property
    def column(self) -> int:
        return self.page.join(self._front)

    def of(self, name: str, quota: Quota = UNLIMITED) -> IdentityUsage:
        """Return the usage of the identities with this name, and apply this quota to all of them."""
        usage = self._known.get(name)
        if usage is None:
            usage = self._known[name] = IdentityUsage(name, quota, self)
            self.has_several = len(self._known) > 1
        elif usage.quota != quota:
            usage.configure(quota)
        return usage
