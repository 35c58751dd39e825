"""Latency targets: what a worker runs and sheds, what it publishes, and what fronts reject."""

from pathlib import Path

import numpy as np
import pytest

from gateway.engine.slo import Estimator
from runtimes.request_frames import InferFrame
from runtimes.status_page import Pace, StatusPage, create
from runtimes.tensors import from_array
from runtimes.worker.batcher import Batcher, Batching
from tests.support.pending_requests import add

# A batch takes 10 ms plus 1 ms per row; 48 ms is a little more than two batches of ten rows take.
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
        add(made, "front", number, frame(deadline, rows), False, 0.0)
    return made


def ids(pending: list) -> list[int]:
    return [each.id for each in pending]


def test_the_earliest_deadline_runs_first() -> None:
    batcher = batcher_with(0.9, 0.3, 0.6)
    assert ids(batcher.next(0.0)[0]) == [1, 2, 0]


def test_a_batch_is_small_enough_for_its_first_request() -> None:
    batcher = batcher_with(0.018, *[0.080] * 9)
    assert batcher.take_expired(0.0) == []
    assert 4 <= len(batcher.next(0.0)[0]) <= 5  # 18 ms minus the time of the response leave time for 5 rows


def test_a_request_that_would_be_late_is_shed_before_its_deadline() -> None:
    batcher = batcher_with(0.005, 0.040)
    assert ids(batcher.take_expired(0.0)) == [0]
    assert ids(batcher.next(0.0)[0]) == [1]


def test_a_first_request_that_would_make_others_late_is_shed() -> None:
    batcher = batcher_with(0.0145, *[0.032] * 9)
    assert ids(batcher.take_expired(0.0)) == [0]
    assert len(batcher.next(0.0)[0]) == 9


def test_the_last_request_runs_however_late_it_seems() -> None:
    batcher = batcher_with(0.001, 0.002)
    assert ids(batcher.take_expired(0.0)) == [0]
    assert ids(batcher.next(0.0)[0]) == [1]


def test_the_queue_delay_ends_in_time_for_the_deadline() -> None:
    batcher = Batcher(BATCHING._replace(delay=1.0))
    batcher.seed_cost(10, 0.016)
    add(batcher, "front", 1, frame(0.048), False, 0.0)
    _, wait = batcher.next(0.0)
    assert wait == pytest.approx(0.048 - 0.0024 - 1.25 * 0.016)


def test_a_model_without_batching_can_have_a_target() -> None:
    batcher = Batcher(Batching(target=TARGET))
    batcher.seed_cost(1, 0.020)
    for number, deadline in enumerate((0.010, 0.045)):
        add(batcher, "front", number, frame(deadline), False, 0.0)
    assert ids(batcher.take_expired(0.0)) == [0]
    assert ids(batcher.next(0.0)[0]) == [1]


@pytest.fixture
def page(tmp_path: Path) -> StatusPage:
    create(str(tmp_path / "page"))
    return StatusPage(str(tmp_path / "page"))


FULL = Pace(rows=10, full_rows=10, running_s=0.020, full_s=0.020, response_s=0.002)


def test_nothing_is_rejected_while_the_worker_is_idle_or_its_pace_unknown(page: StatusPage) -> None:
    estimator = Estimator(page, 1)
    estimator.publish_rows(100)
    assert not estimator.would_be_late(1, now=0.0, deadline=0.001)
    page.set_pace(FULL)
    estimator.publish_rows(0)
    assert not estimator.would_be_late(1, now=0.0, deadline=0.001)


@pytest.mark.parametrize(
    ("waiting", "now", "late"),
    [
        (9, 5.000, False),  # one more batch: 20 + 20 + 2 ms
        (10, 5.000, True),  # two more batches
        (10, 5.016, True),
        (10, 5.019, False),  # the running batch is nearly done: 1 + 40 + 2 ms
    ],
)
def test_waiting_and_running_rows_are_counted_in_batches(
    page: StatusPage, waiting: int, now: float, late: bool
) -> None:
    page.set_busy([], 5.000)
    page.set_pace(FULL)
    estimator = Estimator(page, 1)
    estimator.publish_rows(10 + waiting)
    assert estimator.would_be_late(1, now, now + 0.044) is late


def test_fronts_see_the_rows_of_other_fronts(page: StatusPage) -> None:
    page.set_pace(FULL)
    first, second = Estimator(page, 1), Estimator(page, 2)
    first.publish_rows(25.2)
    assert page.rows() == 26
    assert second.would_be_late(1, 0.0, 0.044)
    page.clear_rows()  # as after a crash of the first front
    assert not second.would_be_late(1, 0.0, 0.044)


def test_pace_and_ids_do_not_overlap_on_the_page(page: StatusPage) -> None:
    page.set_pace(FULL)
    page.set_rows(63, 7)
    page.set_busy(list(range(20_000)), 1.0)
    assert page.pace() == FULL
    assert page.rows() == 7
    assert len(page.running()) > 8000
