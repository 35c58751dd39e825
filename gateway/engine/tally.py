"""What one identity has in progress in one front, and what it may begin at once, as plain counters."""

from collections.abc import MutableSequence


class Tally:
    """The counters that each request of an identity changes; front/fast_path.pyx has a class of the same name.

    requests, bytes_held      in progress; bytes include those of bodies that are being received
    flow                      the number by which queues distinguish identities (runtimes/fair_order.py)
    admitted, admitted_bytes  requests, and their bytes, since someone has taken these figures last
    has_quota                 whether requests need permits. They are valid until `until`, in time.monotonic() seconds,
                              and for no more than `permitted_bytes` in total
    counts_in_flight          whether the page of quotas counts requests in flight; `counted` are counted there
    """

    __slots__ = (
        "_alone", "_cells", "_index", "_max_bytes", "_max_requests", "admitted", "admitted_bytes", "bytes_held",
        "counted", "counts_in_flight", "flow", "has_quota", "permits", "permitted_bytes", "requests", "until",
    )  # fmt: skip

    def __init__(self, flow: int, max_requests: int, max_bytes: int) -> None:
        """`max_requests` and `max_bytes` are what the front may have in progress, of all identities."""
        self.flow, self._max_requests, self._max_bytes = flow, max_requests, max_bytes
        self.requests = self.bytes_held = self.admitted = self.admitted_bytes = self.counted = self.permits = 0
        self.permitted_bytes = self.until = 0.0
        self.has_quota = self.counts_in_flight = self._alone = False
        self._cells: MutableSequence[float] | memoryview[float] = []
        self._index = 0

    def place(self, cells: "memoryview[float]", index: int, alone: bool) -> None:
        """Count in this cell of the page from now on. `alone`: nothing else is counted there."""
        self._cells, self._index, self._alone = cells, index, alone

    def admits(self, size: int, requests: int, admitted_bytes: int, now: float) -> bool:
        """Count a request if there is a permit for it, and if its identity leaves as much room as it has.

        requests, admitted_bytes: what the front has in progress, with this request.
        """
        if self.requests > self._max_requests - requests:
            return False
        if self.bytes_held > self._max_bytes - admitted_bytes and self.bytes_held:
            return False
        if self.has_quota and not self.use_permit(size, now):
            return False
        self.add(size)
        return True

    def use_permit(self, size: int, now: float) -> bool:
        """Use a permit, and count the request as in flight; return False if there is none."""
        if not self.permits or size > self.permitted_bytes or now >= self.until:
            return False
        self.permits -= 1
        self.permitted_bytes -= size
        if self.counts_in_flight:
            self.count(1)
        return True

    def add(self, size: int) -> None:
        """Count an admitted request until `end`."""
        self.requests += 1
        self.bytes_held += size
        self.admitted += 1
        self.admitted_bytes += size

    def end(self, size: int) -> None:
        """Stop counting a request."""
        self.requests -= 1
        self.bytes_held -= size
        if self.counted:
            self.count(-1)

    def count(self, more: int) -> None:
        """Count requests in flight on the page, or no longer."""
        self.counted += more
        self._cells[self._index] = self.counted if self._alone else self._cells[self._index] + more
