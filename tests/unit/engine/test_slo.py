"""With a latency target: what a worker runs and gives up, what it tells the fronts, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest

from gateway.engine.slo import Estimator
from runtimes.status_page import Pace, StatusPage, create
from runtimes.tensors import from_array
from runtimes.wire import InferFrame
from runtimes.worker.batcher import Batcher, Batching

# Any batch takes 10 ms and 1 ms a row; 48 ms is a little more than two of ten rows.
TARGET = 0.048
BATCHING = Batching(max_rows=10, signatures=frozenset({"s"}), target=TARGET)


def frame(deadline: float, rows: int = 1, priority: int = 0) -> InferFrame:
    return InferFrame(deadline, priority, "s", [], [from_array("x", np.zeros((rows, 2), np.float32))])


def batcher_with(*deadlines: float, rows: int = 1) -> Batcher:
    made = Batcher(BATCHING)
    for _ in range(700):  # until the spread has become small
        for size in (1, 2, 4, 8, 10):
            made.seed_cost(size, 0.010 + 0.001 * size)
    for number, deadline in enumerate(deadlines):
        made.add("front", number, frame(deadline, rows), False, 0.0)
    return made


def ids(pending: list) -> list[int]:
    return [each.id for each in pending]


def test_the_soonest_deadline_goes_first() -> None:
    batcher = batcher_with(0.9, 0.3, 0.6)
    assert ids(batcher.next(0.0)[0]) == [1, 2, 0]


def test_a_batch_is_small_enough_for_its_head() -> None:
    batcher = batcher_with(0.018, *[0.080] * 9)
    assert batcher.take_expired(0.0) == []
    assert 4 <= len(batcher.next(0.0)[0]) <= 5  # 18 ms less the way back leave 5 rows


def test_what_would_come_too_late_is_given_up_before_its_deadline() -> None:
    batcher = batcher_with(0.005, 0.040)
    assert ids(batcher.take_expired(0.0)) == [0]
    assert ids(batcher.next(0.0)[0]) == [1]


def test_a_head_that_would_make_the_others_late_is_given_up() -> None:
    batcher = batcher_with(0.0145, *[0.032] * 9)
    assert ids(batcher.take_expired(0.0)) == [0]
    assert len(batcher.next(0.0)[0]) == 9


def test_the_last_one_runs_however_late_it_seems() -> None:
    batcher = batcher_with(0.001, 0.002)
    assert ids(batcher.take_expired(0.0)) == [0]
    assert ids(batcher.next(0.0)[0]) == [1]


def test_waiting_for_company_ends_where_the_deadline_would_suffer() -> None:
    batcher = Batcher(BATCHING._replace(delay=1.0))
    batcher.seed_cost(10, 0.016)
    batcher.add("front", 1, frame(0.048), False, 0.0)
    _, wait = batcher.next(0.0)
    assert wait == pytest.approx(0.048 - 0.0024 - 1.25 * 0.016)


def test_a_model_without_batching_can_have_a_target() -> None:
    batcher = Batcher(Batching(target=TARGET))
    batcher.seed_cost(1, 0.020)
    for number, deadline in enumerate((0.010, 0.045)):
        batcher.add("front", number, frame(deadline), False, 0.0)
    assert ids(batcher.take_expired(0.0)) == [0]
    assert ids(batcher.next(0.0)[0]) == [1]


@pytest.fixture
def page(tmp_path: Path) -> StatusPage:
    create(str(tmp_path / "page"))
    return StatusPage(str(tmp_path / "page"))


FULL = Pace(rows=10, full_rows=10, running_s=0.020, full_s=0.020, response_s=0.002)


def test_nothing_is_refused_while_nothing_is_known_or_under_way(page: StatusPage) -> None:
    estimator = Estimator(page, 1)
    estimator.publish_rows(100)
    assert not estimator.would_be_late(1, now=0.0, deadline=0.001)
    page.set_pace(FULL)
    estimator.publish_rows(0)
    assert not estimator.would_be_late(1, now=0.0, deadline=0.001)


@pytest.mark.parametrize(
    ("waiting", "now", "late"),
    [
        (9, 5.000, False),  # with these it makes one batch more: 20 + 20 + 2 ms
        (10, 5.000, True),  # and here two
        (10, 5.016, True),
        (10, 5.019, False),  # the running batch is nearly done: 1 + 40 + 2 ms
    ],
)
def test_what_waits_and_what_runs_is_counted_in_batches(page: StatusPage, waiting: int, now: float, late: bool) -> None:
    page.set_busy([], 5.000)
    page.set_pace(FULL)
    estimator = Estimator(page, 1)
    estimator.publish_rows(10 + waiting)
    assert estimator.would_be_late(1, now, now + 0.044) is late


def test_fronts_see_each_other(page: StatusPage) -> None:
    page.set_pace(FULL)
    first, second = Estimator(page, 1), Estimator(page, 2)
    first.publish_rows(25.2)
    assert page.rows() == 26
    assert second.would_be_late(1, 0.0, 0.044)
    page.clear_rows()  # the first has died
    assert not second.would_be_late(1, 0.0, 0.044)


def test_the_pace_lies_beside_the_ids(page: StatusPage) -> None:
    page.set_pace(FULL)
    page.set_rows(63, 7)
    page.set_busy(list(range(20_000)), 1.0)
    assert page.pace() == FULL
    assert page.rows() == 7
    assert len(page.running()) > 8000
