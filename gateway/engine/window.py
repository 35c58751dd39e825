"""The room for requests at a worker: as many batches as its window has, one that runs and the next one."""

from collections.abc import Iterable


class Window:
    """Which requests may be under way to a worker, by their rows.

    A request is placed into the first batch that still has room for it, as the worker does when it forms batches. If
    rows alone were counted, the last request would go beyond the window, and what is left of two batches would run as
    a small third one. A request with more rows than a batch takes an empty one.

    rows  of all requests under way, including those that were added although there was no room
    """

    __slots__ = ("_batch_rows", "_batches", "_placed", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self._batch_rows = 0
        self._batches: list[int] = []  # the rows in each
        self._placed: dict[int, int] = {}  # id of a request → index of its batch

    def resize(self, rows: int, batch_rows: int, under_way: Iterable[tuple[int, int]]) -> None:
        """Have room for `rows` in batches of at most `batch_rows`. under_way: the id and rows of each request.

        If requests run alone, batch_rows is 0 or 1, and the room is not divided. With 0 rows, there is no room.
        """
        self._batch_rows = batch_rows if 1 < batch_rows < rows else rows
        self._batches = [0] * (rows // self._batch_rows if rows else 0)
        self.rows = 0
        self._placed.clear()
        for number, each in under_way:
            self.add(number, each)

    def has_room(self, rows: int) -> bool:
        return self._find(rows) >= 0

    def add(self, number: int, rows: int) -> None:
        """Count a request that is sent."""
        index = self._find(rows)
        self.rows += rows
        if index >= 0:
            self._batches[index] += rows
            self._placed[number] = index

    def remove(self, number: int, rows: int) -> None:
        """Stop counting a request."""
        self.rows -= rows
        index = self._placed.pop(number, -1)
        if index >= 0:
            self._batches[index] -= rows

    def _find(self, rows: int) -> int:
        """Return the index of the batch for a request with this many rows, or -1."""
        index = 0
        for taken in self._batches:
            if taken + rows <= self._batch_rows or not taken:
                return index
            index += 1
        if index > 1 and self.rows <= self._batch_rows:
            # All that is under way may be running together, so the worker would have nothing when it ends.
            return self._batches.index(min(self._batches))
        return -1
