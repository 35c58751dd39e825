"""What is recommended follows from what was measured, and from nothing else."""

import pytest

from gateway.profile.point import Point, measured
from gateway.profile.recommendation import Recommendation, recommend

GIB = 1 << 30


def point(rows: int, ms: float, threads: int = 1, instances: int = 1, p99: float = 0.0, peak: int = 0) -> Point:
    rate = instances * (rows or 1) / ms * 1e3
    return Point(threads, instances, rows, 100, ms, p99 or ms, rate, peak, 0)


def recommended(points: list[Point], target_ms: float = 0.0, cores: int = 2, memory: int = 16 * GIB) -> Recommendation:
    found = recommend(points, cores, memory, target_ms)
    assert found is not None
    assert all(setting.reason for setting in found.settings.values())
    return found


def values(found: Recommendation) -> dict[str, float]:
    return {key: setting.value for key, setting in found.settings.items()}


# A model whose duration hardly depends on the batch, one that computes 5 ms per row, and one of 10 ms and 1 ms per row.
FLAT = [point(1, 10.0), point(8, 10.5), point(16, 11.0), point(32, 12.0)]
LINEAR = [point(1, 5.0), point(8, 40.0), point(16, 80.0), point(32, 160.0)]
AFFINE = [point(1, 11.0), point(8, 18.0), point(16, 26.0), point(32, 42.0)]


@pytest.mark.parametrize(
    ("points", "target_ms", "rows", "delay"),
    [
        pytest.param(FLAT, 0.0, 32, 0, id="flat: the largest batch; how long requests may wait is unknown"),
        pytest.param(FLAT, 100.0, 32, 1.2, id="flat: the target leaves time to wait for a full batch"),
        pytest.param(FLAT, 25.5, 32, 0, id="flat: two batches fit, and no delay besides"),
        pytest.param(FLAT, 23.5, 16, 0, id="flat: two batches of 32 do not fit"),
        pytest.param(LINEAR, 0.0, 1, 0, id="linear: larger batches only make requests wait"),
        pytest.param(AFFINE, 0.0, 32, 0, id="affine"),
        pytest.param(AFFINE, 60.0, 16, 2.6, id="affine: 26 of 28.5 ms, and 42 would exceed them"),
        pytest.param([point(1, 0.2), point(8, 0.3)], 50.0, 8, 0, id="fast: clients need longer to ask again"),
        pytest.param([point(1, 0.01), point(64, 0.05)], 0.0, 64, 0, id="tiny: other work for a batch decides"),
    ],
)
def test_batch_and_delay(points: list[Point], target_ms: float, rows: int, delay: float) -> None:
    found = recommended(points, target_ms)
    assert values(found) == {"max_batch_size": rows, "threads": 1, "instances": 1, "queue_delay_ms": delay}
    assert found.in_time
    assert found.point.rows == rows


def test_the_slowest_of_a_hundred_runs_must_be_in_time() -> None:
    points = [point(1, 4.0), point(8, 6.0, p99=30.0)]
    assert values(recommended(points, 40.0))["max_batch_size"] == 1
    assert values(recommended(points, 80.0))["max_batch_size"] == 8


def test_a_target_that_cannot_be_met_is_said() -> None:
    found = recommended(AFFINE, 10.0)
    assert (found.in_time, found.point.rows) == (False, 1)
    assert "cannot be met" in found.settings["max_batch_size"].reason


SLOW = [point(8, 20.0), point(8, 30.0, 2), point(8, 40.0, 1, 2)]


@pytest.mark.parametrize(
    ("points", "target_ms", "key", "reason"),
    [
        pytest.param(
            SLOW, 10.0, "threads", "the shortest p99 of one worker: 20 ms with 1 thread, 30 ms with 2 threads",
            id="nothing is in time, by threads",
        ),
        pytest.param(
            SLOW, 10.0, "instances", "the shortest p99 of several: 40 ms with 1 thread; of one: 20 ms with 1 thread, "
            "30 ms with 2 threads", id="nothing is in time, by instances",
        ),
        pytest.param(
            SLOW, 50.0, "threads", "rows/s of one worker by threads, with 0.1 ms for other work per batch: 398 with 1; "
            "with 2, no batch of one worker is in time", id="one number of threads is late",
        ),
        pytest.param(
            SLOW, 50.0, "instances", "no batch of several is in time: their shortest p99 is 40 ms",
            id="two instances are late",
        ),
        pytest.param(
            [point(8, 20.0, p99=60.0), point(8, 20.0, 1, 2)], 50.0, "instances",
            "2 workers with 1 thread each reach 796 rows/s with 0.1 ms for other work per batch, and no batch of one "
            "alone is in time", id="one is late",
        ),
        pytest.param(
            [point(8, 20.0), Point(2, 1, 8, failed="it crashed")], 0.0, "threads",
            "rows/s of one worker by threads, with 0.1 ms for other work per batch: 398 with 1; with 2, no batch of "
            "one worker succeeded", id="a number of threads failed",
        ),
        pytest.param(
            [point(8, 20.0), Point(1, 2, 8, failed="it crashed")], 0.0, "instances",
            "no batch of several instances succeeded", id="two instances failed",
        ),
        pytest.param(
            [point(8, 20.0), point(8, 20.0, 1, 2, peak=9 * GIB)], 0.0, "instances",
            "several need more than 80% of the machine's memory", id="two copies need more memory",
        ),
        pytest.param(
            [point(8, 20.0), point(8, 19.0, 2)], 0.0, "threads",
            "rows/s of one worker by threads, with 0.1 ms for other work per batch: 398 with 1, 419 with 2; another "
            "one must give 1.1 times as many", id="a second thread hardly helps",
        ),
        pytest.param(
            [point(0, 20.0), point(0, 15.0, 2)], 10.0, "threads",
            "10 ms cannot be met: they leave 4.75 for a batch, because a request may wait for one and run in the next, "
            "but the shortest p99 is 15 ms, of one request; the shortest p99 of one worker: 20 ms with 1 thread, 15 ms "
            "with 2 threads", id="a target is missed by a model without a batch size",
        ),
    ],
)  # fmt: skip
def test_reasons_are_true(points: list[Point], target_ms: float, key: str, reason: str) -> None:
    assert recommended(points, target_ms).settings[key].reason == reason


@pytest.mark.parametrize(
    ("points", "threads", "instances"),
    [
        pytest.param([point(8, 20.0, 1), point(8, 11.0, 2)], 2, 1, id="a second thread helps"),
        pytest.param([point(8, 20.0, 1), point(8, 19.0, 2)], 1, 1, id="a second thread hardly helps"),
        pytest.param([point(8, 20.0, 1), point(8, 30.0, 2)], 1, 1, id="a second thread is in the way"),
        pytest.param([point(8, 20.0, 1), point(8, 15.0, 2), point(8, 20.0, 1, 2)], 1, 2, id="two instances help more"),
        pytest.param([point(8, 20.0, 1), point(8, 10.5, 2), point(8, 20.0, 1, 2)], 2, 1, id="no further copy for 5 %"),
        pytest.param([point(8, 20.0, 1), point(8, 20.0, 1, 2, peak=9 * GIB)], 1, 1, id="two copies need more memory"),
        pytest.param([point(8, 20.0, 1), point(8, 15.0, 2), point(8, 15.0, 2, 2)], 2, 1, id="more threads than cores"),
        pytest.param([point(64, 0.02, 1), point(64, 0.02, 1, 2)], 1, 1, id="a front cannot send more"),
        pytest.param([point(8, 0.08, 1), point(8, 0.08, 1, 2)], 1, 1, id="the front needs the second core"),
        pytest.param([point(8, 0.3, 1), point(8, 0.3, 1, 2)], 1, 2, id="the front needs a part of the second core"),
        pytest.param([point(8, 20.0, 4)], 4, 1, id="the only one that was measured"),
    ],
)
def test_threads_and_instances(points: list[Point], threads: int, instances: int) -> None:
    found = values(recommended(points))
    assert (found["threads"], found["instances"]) == (threads, instances)


def test_a_model_whose_rows_are_not_counted_gets_no_batch() -> None:
    found = recommended([point(0, 20.0, 1), point(0, 11.0, 2)])
    assert values(found) == {"threads": 2, "instances": 1}


def test_sizes_that_failed_are_not_recommended() -> None:
    assert recommend([Point(1, 1, 8, failed="out of memory")], 2, GIB) is None
    assert values(recommended([*FLAT[:2], Point(1, 1, 16, failed="out of memory")]))["max_batch_size"] == 8


def test_figures_of_a_point() -> None:
    runs = [0.010] * 98 + [0.050, 0.100]
    assert measured(2, 3, 4, runs, 100, 20) == Point(
        2, 3, 4, 100, pytest.approx(10.0), pytest.approx(50.5, abs=0.1), pytest.approx(1200.0), 100, 20
    )
