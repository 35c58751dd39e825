"""With a latency target: decides which of the waiting requests to shed because they would be late."""

from typing import List, Sequence

from runtimes.worker.pending import PendingGroup
from runtimes.worker.sizing import Sizing


def to_shed(waiting: Sequence[PendingGroup], sizing: Sizing, now: float) -> List[bool]:
    """Return for each request, in the order in which they would run, whether to shed it now. Each is a group of one.

    A request is shed if it would be late even if it ran immediately. So is a head that is so close to its deadline that
    it would make others late. The last request is never shed, so that a cost curve that is wrong about everything is
    corrected.
    """
    late = [sizing.time_left(each.first_deadline, now) < sizing.curve(each.key).expected(each.rows) for each in waiting]
    if all(late):
        late[-1] = False
    alive = [index for index, is_late in enumerate(late) if not is_late]
    while len(alive) > 1 and _blocks_others([waiting[index] for index in alive], sizing, now):
        late[alive.pop(0)] = True
    return late


def _blocks_others(waiting: Sequence[PendingGroup], sizing: Sizing, now: float) -> bool:
    """Return whether only a small batch would be in time for the head, and the batch after it would be late.

    One of the two is lost in any case; without the head, the others run in a larger batch with a higher throughput.
    """
    head = waiting[0]
    curve, limit, total = sizing.curve(head.key), sizing.max_batch_rows(head.key), sum([each.rows for each in waiting])
    fitting = curve.rows_within(sizing.time_left(head.first_deadline, now), min(limit, total))
    if fitting >= min(limit, total):
        return False
    fitting, rows = max(fitting, head.rows), 0
    for each in waiting:
        if rows + each.rows > fitting:
            seconds = curve.upper_bound(rows) + curve.upper_bound(min(limit, total - rows))
            return sizing.time_left(each.first_deadline, now) < seconds
        rows += each.rows
    return False
