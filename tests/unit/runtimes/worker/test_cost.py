"""The cost of a batch, learned from runs: between measured sizes, and with noise, outliers and drift."""

import random
from collections.abc import Callable

import pytest

from runtimes.worker.cost import CostCurve
from runtimes.worker.sizing import Sizing


def learned(cost: Callable[[int], float], sizes: list[int], runs: int = 20, jitter: float = 0.0) -> CostCurve:
    curve, noise = CostCurve(), random.Random(0)
    for _ in range(runs):
        for rows in sizes:
            curve.observe(rows, cost(rows) * noise.lognormvariate(0, jitter))
    return curve


def affine(rows: int) -> float:
    return 0.01 + 0.001 * rows


def test_sizes_that_never_ran_lie_on_lines_between_and_beyond_those_that_did() -> None:
    curve = learned(affine, [1, 8, 16])
    assert [curve.expected(rows) for rows in (1, 4, 12, 64)] == pytest.approx([affine(rows) for rows in (1, 4, 12, 64)])


def test_fewer_rows_than_ever_ran_are_not_taken_for_cheaper() -> None:
    assert learned(affine, [8]).expected(1) == pytest.approx(affine(8))


def test_large_sizes_are_filed_together() -> None:
    curve = learned(affine, list(range(1, 2000, 7)), runs=1)
    assert len(curve._sizes) < 50
    assert curve.expected(1500) == pytest.approx(affine(1500), rel=0.1)


def test_the_first_run_of_a_size_may_set_things_up() -> None:
    curve = learned(affine, [1, 16])
    curve.observe(8, 5.0)
    curve.observe(8, affine(8))
    assert curve.expected(8) == pytest.approx(affine(8))


def test_one_outlier_is_no_trend() -> None:
    curve = learned(affine, [1, 8, 16])
    curve.observe(8, 50.0)
    assert curve.expected(8) < 1.3 * affine(8)


def test_what_slows_one_size_is_expected_of_the_others_too() -> None:
    curve = learned(affine, [1, 8, 16])
    for _ in range(30):
        curve.observe(8, 3 * affine(8))
    assert curve.expected(8) == pytest.approx(3 * affine(8), rel=0.05)
    assert curve.expected(16) > 1.3 * affine(16)


def test_the_slowest_is_what_nearly_all_runs_stay_within() -> None:
    curve, noise = learned(affine, [8], runs=500, jitter=0.1), random.Random(1)
    within = sum(affine(8) * noise.lognormvariate(0, 0.1) <= curve.upper_bound(8) for _ in range(1000))
    assert 960 <= within < 1000


def test_rows_within_a_time() -> None:
    curve = learned(affine, [1, 8, 32])
    fitting = curve.rows_within(0.03, 32)
    assert curve.upper_bound(fitting) <= 0.03 < curve.upper_bound(fitting + 1)
    assert curve.rows_within(1.0, 32) == 32
    assert curve.rows_within(0.001, 32) == 0


def superlinear(rows: int) -> float:
    return 0.01 + 0.001 * rows + 0.0005 * rows**2


def test_a_smaller_size_is_best_only_if_it_is_surely_better() -> None:
    assert learned(superlinear, [1, 2, 4, 8, 16, 32]).best_rows(32) == 4
    linear = learned(lambda rows: 0.01 * rows, [1, 2, 4, 8, 16, 32], runs=200, jitter=0.1)
    assert linear.best_rows(32) == 32
    assert learned(superlinear, [1, 2, 4], runs=200).best_rows(32) == 32  # not known yet


def test_a_size_that_was_given_up_is_tried_again() -> None:
    curve = learned(superlinear, [1, 2, 4, 8, 16, 32])
    assert {curve.choose_rows(32) for _ in range(600)} == {2, 4, 8}
    assert {curve.choose_rows(32, smaller=False) for _ in range(600)} == {4, 8}


def test_smaller_sizes_are_tried_until_something_is_known_of_them() -> None:
    curve = learned(superlinear, [32])
    for _ in range(200):
        rows = curve.choose_rows(32)
        curve.observe(rows, superlinear(rows))
    assert curve.best_rows(32) == 4


def test_without_a_target_full_batches_run_until_they_are_known_to_be_worse() -> None:
    sizing = Sizing(32)
    assert sizing.max_batch_rows("k") == 32
    for _ in range(20):
        for rows in (8, 32):
            sizing.observe("k", rows, 0.002 * rows if rows == 8 else 0.004 * rows)
    assert sizing.max_batch_rows("k") == 8
    assert sizing.max_batch_rows("another shape") == 32


def test_with_a_target_batches_take_less_than_half_of_it_and_start_small() -> None:
    sizing, seen = Sizing(32, target=0.1), []
    for _ in range(8):
        rows = sizing.max_batch_rows("k")
        seen.append(rows)
        for _ in range(10):
            sizing.observe("k", rows, 0.001 * rows + 0.01)
    assert seen[:3] == [1, 2, 4]
    assert 24 <= seen[-1] <= 32
    assert 2 * sizing.curve("k").upper_bound(seen[-1]) <= 0.1


def test_sizes_of_a_model_whose_batches_are_short_are_not_compared() -> None:
    """Of a tiny model on a busy machine, only the batches that waited for a core are long, which says nothing of it."""
    sizing = Sizing(32)
    for number in range(4000):
        rows = (8, 24, 32)[number % 3]
        stalled = number % 4 == 0
        sizing.observe("k", rows, (0.002 if rows == 8 else 0.02) if stalled else 0.0001)
        assert sizing.accepts("k", 32)
    assert sizing.choose_rows("k") == sizing.max_batch_rows("k") == 32


def test_half_a_batch_is_not_tried_if_it_would_be_short() -> None:
    """It would not be measured, and so it would be tried again and again."""
    sizing = Sizing(32)
    chosen = []
    for _ in range(400):
        chosen.append(sizing.choose_rows("k"))
        sizing.observe("k", chosen[-1], 0.00004 * chosen[-1])
    assert set(chosen) == {32}


def test_sizes_are_compared_no_longer_once_batches_are_short() -> None:
    sizing = Sizing(32)
    for _ in range(40):
        for rows in (8, 16, 32):
            sizing.observe("k", rows, 0.001 * rows if rows < 32 else 0.1)
    assert not sizing.accepts("k", 32)
    for _ in range(40):
        sizing.observe("k", 32, 0.0001)
    assert sizing.accepts("k", 32)


def test_no_size_is_chosen_whose_batches_are_short() -> None:
    sizing = Sizing(32)
    for _ in range(40):
        for rows in (8, 16, 32):
            sizing.observe("k", rows, {8: 0.0001, 16: 0.0011, 32: 0.003}[rows])
    assert sizing.max_batch_rows("k") == 16
