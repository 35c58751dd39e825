"""Predicts whether a worker of a model with a latency target would answer a request too late.

The worker publishes its pace on its status page, and each front the number of rows that it has in progress for the
worker. A burst that arrives at one front is therefore visible to all of them right away.
"""

from math import ceil

from runtimes.status_page import StatusPage


class Estimator:
    """Reads one worker's load and pace from its status page, and publishes this front's share of the load there."""

    def __init__(self, page: StatusPage, front: int) -> None:
        self._page = page
        self._front = front

    def publish_rows(self, rows: float) -> None:
        """Publish the number of rows that this front has in progress for the worker."""
        self._page.set_rows(self._front, ceil(rows))

    def would_be_late(self, rows: int, now: float, deadline: float) -> bool:
        """Return whether `rows` more rows, after all those in progress, would miss the deadline.

        Times are time.monotonic() seconds. An idle worker is never considered late: if a wrong estimate kept all
        requests away from it, no run could correct the estimate.
        """
        ahead, pace, since = self._page.rows(), self._page.pace(), self._page.busy_since()
        if not ahead or not pace.full_rows:
            return False
        rest_s = max(since + pace.running_s - now, 0.0) if since else 0.0
        running = pace.rows if since else 0
        batches = ceil((max(ahead - running, 0) + rows) / pace.full_rows)
        return now + rest_s + batches * pace.full_s + pace.response_s > deadline
