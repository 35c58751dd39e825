"""With a latency target: what a worker would answer too late, told when the request arrives.

Every front says on the worker's status page how much it has for it, and the worker how fast it is; so
each of several fronts sees a burst at once, wherever it arrives.
"""

from math import ceil

from runtimes.status_page import StatusPage


class Estimator:
    """One worker as its status page shows it: it says how fast it is, and every front how much it has for it."""

    def __init__(self, page: StatusPage, front: int) -> None:
        self._page = page
        self._front = front

    def tell(self, rows: float) -> None:
        """This front has so many rows under way for the worker."""
        self._page.set_rows(self._front, ceil(rows))

    def would_be_late(self, rows: int, now: float, deadline: float) -> bool:
        """Whether so many rows, behind all that is under way, would miss the deadline (time.monotonic() seconds).

        With nothing under way the answer is no: somebody has to try, or an estimate that is wrong
        could never be corrected.
        """
        ahead, pace, since = self._page.rows(), self._page.pace(), self._page.busy_since()
        if not ahead or not pace.most:
            return False
        rest_s = max(since + pace.seconds - now, 0.0) if since else 0.0
        running = pace.rows if since else 0
        batches = ceil((max(ahead - running, 0) + rows) / pace.most)
        return now + rest_s + batches * pace.full_s + pace.way_back_s > deadline
