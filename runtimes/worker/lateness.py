"""With a latency target: which of the waiting requests are not worth running any more."""

from typing import List, Sequence

from runtimes.worker.pending import Pending
from runtimes.worker.sizing import Sizing


def hopeless(waiting: Sequence[Pending], sizing: Sizing, now: float) -> List[bool]:
    """For each, in the order in which they would run: whether to give it up now.

    That is what would come too late even if it ran at once; and a head that is so late that it would
    make others late. The very last one is never given up: a curve that is wrong about everything must
    be shown that it is.
    """
    late = [sizing.left(each.frame.deadline, now) < sizing.curve(each.key).expected(each.rows) for each in waiting]
    if all(late):
        late[-1] = False
    alive = [index for index, is_late in enumerate(late) if not is_late]
    while len(alive) > 1 and _is_in_the_way([waiting[index] for index in alive], sizing, now):
        late[alive.pop(0)] = True
    return late


def _is_in_the_way(waiting: Sequence[Pending], sizing: Sizing, now: float) -> bool:
    """Whether only a small batch comes in time for the head, and the next one is then too late for its own.

    One of the two is lost in any case; without the head the others run in a batch that pays.
    """
    head = waiting[0]
    curve, most, total = sizing.curve(head.key), sizing.most(head.key), sum([each.rows for each in waiting])
    fitting = curve.rows_within(sizing.left(head.frame.deadline, now), min(most, total))
    if fitting >= min(most, total):
        return False
    fitting, rows = max(fitting, head.rows), 0
    for each in waiting:
        if rows + each.rows > fitting:
            takes = curve.slowest(rows) + curve.slowest(min(most, total - rows))
            return sizing.left(each.frame.deadline, now) < takes
        rows += each.rows
    return False
