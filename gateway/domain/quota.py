"""How much one identity may use, and the counter of what it has used."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from gateway.errors import Overloaded


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one identity, over all fronts. None is no limit.

    burst                       requests that may arrive at once; by default as many as in one second, and at least 1
    in_flight                   requests that may be in progress at the same time
    bytes_per_second            bytes of input; those of one second may arrive at once
    compute_seconds_per_minute  time that models compute for its requests. A batch is divided among its requests by
                                rows; those of one minute may be used at once
    """

    requests_per_second: float | None = None
    burst: int | None = None
    in_flight: int | None = None
    bytes_per_second: float | None = None
    compute_seconds_per_minute: float | None = None

    def __post_init__(self) -> None:
        for name in _NAMES:
            value, is_whole = getattr(self, name), name in ("burst", "in_flight")
            if value is None:
                continue
            is_number = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
            if not is_number or not 0 < value < math.inf:
                raise ValueError(f"{name} must be a {'whole ' if is_whole else ''}number above 0")
        if self.burst is not None and self.requests_per_second is None:
            raise ValueError("burst needs requests_per_second; set both, or in_flight instead")

    @property
    def largest_burst(self) -> float:
        """How many requests may arrive at once."""
        return float(self.burst or max(1.0, self.requests_per_second or 1.0))


_NAMES = tuple(field.name for field in fields(Quota))

UNLIMITED = Quota()


def quota_from_json(raw: Mapping[str, Any]) -> Quota:
    """Return the quota that these keys state. Raises ValueError, with one sentence for whoever wrote them."""
    unknown = sorted(set(raw) - set(_NAMES))
    if unknown:
        raise ValueError(f"there is no limit '{unknown[0]}'; the limits are {', '.join(_NAMES)}")
    return Quota(**raw)


class Usage(Protocol):
    """Counts what one identity uses; everyone with its name shares the counters, in all fronts.

    A front gets it from `engine.usages.of(name, quota)` (gateway/engine/usage.py), and gives it to the Identity.
    """

    @property
    def flow(self) -> int:
        """The number by which queues distinguish identities: see runtimes/fair_order.py."""

    def reserve(self, size: int, already_reserved: int, is_input: bool = True) -> None:
        """Count `size` more bytes of a body until `unreserve`; `already_reserved` of it are counted so far.

        is_input  False for memory that reading the body takes, of which no quota says anything. A refusal is not
                  counted then, because it may be asked for again: see `count_refused`

        Raises QuotaExceeded if a request with these bytes would exceed a limit, Overloaded if they leave too little
        room for other identities.
        """

    def unreserve(self, size: int) -> None:
        """Stop counting `size` bytes of a body."""

    def count_refused(self, error: Overloaded) -> None:
        """Count a request that ends because `reserve` has refused memory."""

    def admit(self, size: int) -> None:
        """Count a request with `size` bytes of input until `end`. The AdmissionController counts it already.

        Raises QuotaExceeded if it exceeds a limit, Overloaded if it leaves too little room for other identities. It is
        not counted then.
        """

    def admits(self, size: int) -> bool:
        """Do what `admit` does, but return False for a request that it would refuse, and do not count the refusal."""

    def hold(self, size: int) -> None:
        """Count a request that waits for its model, until `end`; it is admitted afterwards.

        Raises what `admit` does, but for rates: those count what is admitted.
        """

    def end(self, size: int) -> None:
        """Stop counting a request that was admitted, or held."""

    def charge(self, seconds: float) -> None:
        """Count time that a model has computed for a request."""
