"""Whether two models compute the same: what counts as a difference."""

import numpy as np
import pytest

from gateway.export.proof import compare, looks_like_classes

Pair = tuple[list[float], list[float]]


def differ(*pairs: tuple[object, object], dtype: str = "f4", classes: bool = False):
    cases = [(f"c{n}", {"y": np.array(a, dtype)}, {"y": np.array(b, dtype)}) for n, (a, b) in enumerate(pairs)]
    (found,) = compare(["y"], cases, frozenset(["y"]) if classes else frozenset())
    return found


def test_the_same():
    found = differ(([1.0, 2.0], [1.0, 2.0]))
    assert (found.absolute, found.relative, found.problem) == (0.0, 0.0, "")


def test_a_difference_is_told_by_its_part_of_the_largest_value_and_its_case():
    found = differ(([100.0, 1.0], [100.0, 1.5]), ([1.0, 1.0], [1.0, 1.25]))
    assert found.absolute == 0.5
    assert found.relative == pytest.approx(0.25)
    assert found.case == "c1"


def test_small_outputs_are_not_forgiven():
    assert differ(([1e-5, 2e-5], [2e-5, 1e-5])).relative == pytest.approx(0.5)


def test_what_is_tiny_beside_other_cases_counts_by_their_size():
    """A case of zeros has rounding for its outputs: that is no difference of a hundred per cent."""
    found = differ(([1.0], [1.0]), ([1e-8], [3e-8]))
    assert found.relative == pytest.approx(2e-8 / 1e-3)


def test_zeros_alone_may_not_become_anything():
    assert differ(([0.0], [1e-9])).relative == float("inf")
    assert differ(([0.0], [0.0])).relative == 0.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1.0, float("nan")], [1.0, 0.0]),
        ([1.0, 0.0], [1.0, float("nan")]),
        ([float("inf"), 1.0], [1.0, 1.0]),
        ([float("inf")], [float("-inf")]),
        ([1.0], [float("inf")]),
    ],
)
def test_nan_and_infinity_stand_in_the_same_places_or_it_is_wrong(a, b):
    assert differ((a, b)).problem


def test_nan_and_infinity_in_the_same_places_are_the_same():
    values = [float("nan"), float("inf"), float("-inf"), 1.0]
    found = differ((values, values))
    assert (found.problem, found.relative) == ("", 0.0)


def test_other_shapes_and_lost_outputs_are_problems():
    assert "shape [1, 2]" in differ(([1.0, 2.0], [[1.0, 2.0]])).problem
    (lost,) = compare(["y"], [("c", {"y": np.zeros(1)}, {})])
    assert "the export lacks it" in lost.problem


def test_integers_and_booleans_differ_or_not():
    found = differ(([1, 2, 3, 4], [1, 2, 3, 9]), dtype="i8")
    assert (found.absolute, found.relative) == (5.0, 0.25)
    assert differ(([True, False], [True, True]), dtype="?").relative == 0.5


def test_top1_counts_rows_with_a_clear_winner():
    found = differ(([[1, 2], [2, 1], [1, 1]], [[1, 3], [1, 2], [2, 1]]), classes=True)
    assert found.top1 == 0.5
    assert differ(([[1, 1]], [[2, 1]]), classes=True).top1 is None


@pytest.mark.parametrize(
    ("shape", "datatype", "classes"),
    [
        ((-1, 10), "FP32", True),
        ((-1, 1), "FP32", False),
        ((-1, 10), "INT64", False),
        ((-1, 4, 4), "FP32", False),
        (None, "FP32", False),
    ],
)
def test_what_looks_like_classes(shape, datatype, classes):
    assert looks_like_classes(shape, datatype) is classes


@pytest.mark.parametrize("pairs", [[], [(np.zeros((0, 3)), np.zeros((0, 3)))], [([float("nan")], [float("nan")])]])
def test_what_gives_nothing_to_compare_is_not_proven(pairs):
    assert "no number to compare" in differ(*pairs).problem
