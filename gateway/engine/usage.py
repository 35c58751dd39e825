"""Counts what identities use, and refuses what exceeds their quotas or leaves no room for other identities."""

import math
import time
from collections.abc import Callable
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from gateway.domain.quota import UNLIMITED, Quota
from gateway.engine.admission import AdmissionController
from gateway.engine.identity_metrics import IdentityMetrics
from gateway.engine.quota_slot import LEASE_S, QuotaSlot, counted
from gateway.engine.tally import Tally
from gateway.errors import Overloaded, QuotaExceeded
from gateway.process.usage_page import UsagePage
from runtimes.fair_order import MAX_FLOW


class IdentityUsage:
    """The gateway.domain.quota.Usage of everyone with the same name in this front.

    Most requests are admitted by permits, which this front has taken from the page in advance (QuotaSlot.lend), and are
    counted by `tally` alone. The compiled path (front/fast_path.pyx) asks that first, and then `admits`.
    """

    __slots__ = (
        "__weakref__", "_admission", "_counts", "_key", "_max_bytes", "_max_owed_s", "_max_requests", "_now", "_owed_s",
        "_slot", "_usages", "quota", "tally",
    )  # fmt: skip

    def __init__(self, name: str, quota: Quota, usages: "Usages") -> None:
        digest = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
        self._key = digest or 1
        self._usages, self._now, self._counts = usages, usages.clock, usages.metrics.of(name)
        self._admission = usages.admission
        self._max_requests, self._max_bytes = usages.admission.limits.max_requests, usages.admission.limits.max_bytes
        self.tally = usages.tally(digest % MAX_FLOW + 1, self._max_requests, self._max_bytes)
        self._slot: QuotaSlot | None = None
        self._owed_s, self._max_owed_s = 0.0, math.inf  # compute time that was not charged yet
        self.configure(quota)

    def __del__(self) -> None:
        self.update_metrics()

    @property
    def flow(self) -> int:
        """See gateway.domain.quota.Usage."""
        return self.tally.flow

    @property
    def requests(self) -> int:
        """The requests in progress in this front."""
        return self.tally.requests

    @property
    def bytes(self) -> int:
        """Their bytes, with those of bodies that are being received."""
        return self.tally.bytes_held

    def update_metrics(self) -> None:
        """Add what the tally has counted to the metrics."""
        tally, counts = self.tally, self._counts
        counts.requests += tally.admitted
        counts.input_bytes += tally.admitted_bytes
        tally.admitted = tally.admitted_bytes = 0

    def configure(self, quota: Quota) -> None:
        """Apply another quota. What was used before counts against it."""
        self._end_lease()
        self.quota, tally = quota, self.tally
        if self._slot is None and quota != UNLIMITED:
            self._slot = QuotaSlot(self._key, self._usages.page, self._usages.column, tally)
            tally.has_quota = True
        if self._slot is not None:
            self._slot.configure(quota)
            self._max_owed_s = self._slot.unflushed_s
            if tally.counts_in_flight and tally.requests > tally.counted:
                # They were admitted without this limit. All are counted, so that none gives back what it has not taken.
                tally.count(tally.requests - tally.counted)

    def reserve(self, size: int, already_reserved: int, is_input: bool = True) -> None:
        """See gateway.domain.quota.Usage."""
        try:
            self._check_body(size, already_reserved, is_input)
        except Overloaded as error:
            if is_input:
                self.count_refused(error)
            raise
        self.tally.bytes_held += size

    def _check_body(self, size: int, already_reserved: int, is_input: bool) -> None:
        if self._slot is not None and is_input:
            self._slot.check(already_reserved + size, self._now())
        others, left = self.tally.bytes_held - already_reserved, self._max_bytes - self._admission.admitted_bytes - size
        if others > left and others and self._usages.has_several:
            _refuse_share(counted(others, "byte"))

    def unreserve(self, size: int) -> None:
        """See gateway.domain.quota.Usage."""
        self.tally.bytes_held -= size

    def admit(self, size: int) -> None:
        """See gateway.domain.quota.Usage."""
        try:
            self._admit(size)
        except Overloaded as error:
            self.count_refused(error)
            raise

    def admits(self, size: int) -> bool:
        """See gateway.domain.quota.Usage."""
        try:
            self._admit(size)
        except Overloaded:
            return False
        return True

    def _admit(self, size: int) -> None:
        admission, tally, slot = self._admission, self.tally, self._slot
        if tally.admits(size, admission.requests, admission.admitted_bytes, self._now()):
            return
        self._check_share()
        if slot is not None and not tally.use_permit(size, self._now()):
            self._take(slot, size)
        tally.add(size)

    def _check_share(self) -> None:
        admission, tally = self._admission, self.tally  # the former already counts this request
        # What it has must not be more than what it leaves to others.
        if tally.requests > self._max_requests - admission.requests and self._usages.has_several:
            _refuse_share(counted(tally.requests, "request"))
        held = tally.bytes_held
        if held > self._max_bytes - admission.admitted_bytes and held and self._usages.has_several:
            _refuse_share(counted(held, "byte"))

    def hold(self, size: int) -> None:
        """See gateway.domain.quota.Usage."""
        try:
            self._check_share()
            slot = self._slot
            if slot is not None and self.tally.counts_in_flight:
                slot.hold(self._now())
        except Overloaded as error:
            self.count_refused(error)
            raise
        self.tally.requests += 1
        self.tally.bytes_held += size

    def _take(self, slot: QuotaSlot, size: int) -> None:
        now, tally = self._now(), self.tally
        self._end_lease()
        slot.take(size, now)
        tally.permits, tally.permitted_bytes = slot.lend(now)
        tally.until = now + LEASE_S

    def _end_lease(self) -> None:
        """Settle with the page: what was lent and not used, and what was used and not charged."""
        slot, tally = self._slot, self.tally
        if slot is None:
            self._owed_s = 0.0  # nothing is limited, so nobody is owed
            return
        if tally.permits:
            slot.give_back(tally.permits, tally.permitted_bytes)
            tally.permits = 0
        if self._owed_s and self._max_owed_s < math.inf:
            slot.charge(self._owed_s, self._now())
        self._owed_s = 0.0

    def end(self, size: int) -> None:
        """See gateway.domain.quota.Usage."""
        self.tally.end(size)

    def charge(self, seconds: float) -> None:
        """See gateway.domain.quota.Usage."""
        self._counts.compute_s += seconds
        self._owed_s += seconds
        if self._owed_s > self._max_owed_s:
            assert self._slot is not None
            self._slot.charge(self._owed_s, self._now())
            self._owed_s = 0.0

    def count_refused(self, error: Overloaded) -> None:
        """See gateway.domain.quota.Usage."""
        self._counts.count_refused(error.limit if isinstance(error, QuotaExceeded) else "share")


def _refuse_share(what: str) -> NoReturn:
    raise Overloaded(f"your share of the gateway's limit is used up by {what} in progress; try again later")


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
        tally: Callable[[int, int, int], Tally] = Tally,
    ) -> None:
        """`path` is that of the page which all fronts share; None if there is only this one. `tally` makes a Tally."""
        self.admission, self.clock, self.tally = admission, clock, tally
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

    def snapshot(self) -> list[dict[str, Any]]:
        """Return what each identity has used, for the supervisor."""
        for usage in list(self._known.values()):
            usage.update_metrics()
        return self.metrics.snapshot()
