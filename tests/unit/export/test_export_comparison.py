"""What counts as a difference between two models."""

import ml_dtypes
import numpy as np
import pytest

from gateway.domain.differences import looks_like_classes
from gateway.export.comparison import Answers, compare, within
from runtimes.contract import numpy_dtype

Pair = tuple[list[float], list[float]]


def differ(*pairs: tuple[object, object], dtype: str = "f4", classes: bool = False):
    cases = [Answers(f"c{n}", {"y": np.array(a, dtype)}, {"y": np.array(b, dtype)}) for n, (a, b) in enumerate(pairs)]
    (found,) = compare(["y"], cases, classifiers=frozenset(["y"]) if classes else frozenset())
    return found


@pytest.mark.parametrize("datatype", ["BF16", "FP8_E4M3FN", "FP8_E5M2"])
def test_neighbors_of_a_coarse_datatype_are_equal(datatype: str):
    dtype = numpy_dtype(datatype)
    step = float(ml_dtypes.finfo(dtype).eps)
    near = differ(([2.0, -3.0, np.nan], [2 + 2 * step, -3 - 2 * step, np.nan]), dtype=dtype)
    assert (near.relative, near.problem) == (0.0, "")
    far = differ(([2.0, -3.0], [2 + 6 * step, -3.0]), dtype=dtype)
    assert far.relative > step
    assert differ(([1.0], [np.nan]), dtype=dtype).problem


@pytest.mark.parametrize("pair", [([1.0, 2.0], [1.0, np.inf]), ([1.0, -np.inf], [1.0, np.inf])])
def test_an_infinity_is_no_neighbor_of_anything_else(pair: Pair):
    assert differ(pair, dtype=numpy_dtype("BF16")).problem
    assert differ(pair, dtype=numpy_dtype("FP8_E5M2")).problem


def test_outputs_in_bf16_may_differ_by_eight_of_its_steps():
    dtype = numpy_dtype("BF16")
    assert within(differ(([8.0, -0.5], [8.25, -0.25]), dtype=dtype), 1e-4)
    assert not within(differ(([8.0, -0.5], [8.75, -0.5]), dtype=dtype), 1e-4)
    assert not within(differ(([8.0, -0.5], [8.25, -0.25])), 1e-4)


@pytest.mark.parametrize("datatype", ["INT4", "UINT4"])
def test_integers_of_four_bits_are_equal_or_not(datatype: str):
    dtype = numpy_dtype(datatype)
    assert differ(([1, 2], [1, 2]), dtype=dtype).relative == 0
    assert differ(([1, 2], [1, 3]), dtype=dtype).relative == 0.5


def test_the_same():
    found = differ(([1.0, 2.0], [1.0, 2.0]))
    assert (found.absolute, found.relative, found.problem) == (0.0, 0.0, "")


def test_a_difference_is_reported_relative_to_the_largest_value_of_its_case():
    found = differ(([100.0, 1.0], [100.0, 1.5]), ([1.0, 1.0], [1.0, 1.25]))
    assert found.absolute == 0.5
    assert found.relative == pytest.approx(0.25)
    assert found.case == "c1"


def test_small_outputs_are_not_forgiven():
    assert differ(([1e-5, 2e-5], [2e-5, 1e-5])).relative == pytest.approx(1.0)


def test_what_is_tiny_beside_other_cases_counts_by_their_size():
    """Outputs for zeros consist of rounding errors, which must not count as a difference of a hundred percent."""
    found = differ(*[([1.0], [1.0])] * 4, ([1e-8], [3e-8]))
    assert found.relative == pytest.approx(2e-8 / 1e-2)


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
    (lost,) = compare(["y"], [Answers("c", {"y": np.zeros(1)}, {})])
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
def test_outputs_without_numbers_do_not_match(pairs):
    assert "no number to compare" in differ(*pairs).problem


@pytest.mark.parametrize("exploding", [1, 5])
def test_exploding_cases_hide_no_others(exploding):
    """Boxes are zeros on every natural input, and huge and right on others: if sizes are exponentials, the latter
    may be more than half of the generated inputs."""
    natural = [([[20.0, 30.0]], [[0.0, 0.0]]) for _ in range(3)]
    found = differ(*natural, *[([[3e22, 1e20]], [[3e22, 1e20]])] * exploding)
    assert found.relative == pytest.approx(1.0)
    assert not within(found, 1e-4)


def test_a_small_column_beside_a_large_one_is_measured_by_itself():
    """Only the boxes' positions are wrong, by a thousandth of their sizes, which are next to them."""
    sizes = np.array([[[4.0, 3000.0], [7.0, 2000.0]]], "f4")
    found = differ((sizes, sizes + np.array([2.0, 0.0], "f4")))
    assert found.relative == pytest.approx(2 / 7)
    assert found.where == "[:, :, 0]"
    assert found.coarse == pytest.approx(2 / 3000)
    assert within(found, 1e-3, allow_loss=True)


def test_a_sum_that_is_nearly_zero_may_be_off_by_the_rounding_of_its_terms():
    """An untrained classifier: one score is 500 times smaller than the others, but a sum of terms that are as large."""
    scores = np.array([[7e-4, 1.3e-6], [-7e-4, 1.4e-6]], "f4")
    assert differ((scores, scores + np.array([0.0, 4e-10], "f4"))).relative < 1e-6
    assert differ((scores, scores + np.array([0.0, 4e-9], "f4"))).relative > 1e-3


def test_scores_that_are_tiny_in_one_run_are_only_as_exact_as_what_they_are_made_of():
    """A recurrent layer whose gates are nearly closed: ONNX Runtime's sigmoid is off by half a unit in the last place
    of 1, which is a ten-thousandth of the result. Inputs that move by one unit do not change that."""
    usual = [([[0.3, 0.2]], [[0.3, 0.2]]) for _ in range(4)]
    quiet = np.array([[1.3e-3, 2.9e-4]], "f4")
    assert within(differ(*usual, (quiet, quiet + np.array([0.0, 6e-8], "f4"))), 1e-4)
    assert within(differ(*usual, (quiet / 1000, quiet / 1000 + np.array([6e-8, 0.0], "f4"))), 1e-4)
    assert not within(differ(*usual, (quiet, quiet + np.array([0.0, 6e-7], "f4"))), 1e-4)
    assert not within(differ((quiet, quiet + np.array([0.0, 6e-8], "f4"))), 1e-4), "no run shows larger values"


def test_one_score_that_is_small_by_chance_is_measured_by_what_it_usually_is():
    rows = [([[1.0, 0.8]], [[1.0, 0.8]]) for _ in range(4)]
    assert differ(*rows, ([[1.0, 1e-7]], [[1.0, 2e-7]])).relative < 1e-6


def test_scores_beside_masked_ones_are_measured_without_these():
    """All scores that are not masked have become zero."""
    found = differ(([[1.48, -0.7, -1e9]], [[0.0, 0.0, -1e9]]))
    assert found.relative == pytest.approx(1.0)
    assert differ(([[1.48, -0.7, -1e9]], [[1.48, -0.7, -1.1e9]])).relative == pytest.approx(0.1)


def test_a_part_that_became_constant_is_lost_unless_asked_for():
    """Boxes in pixels next to scores: quantized to 8 bits, every score is zero."""
    random = np.random.default_rng(1)
    a = np.concatenate([random.uniform(0, 640, (2, 16, 4)), random.uniform(0, 0.5, (2, 16, 2))], -1).astype("f4")
    b = a * np.array([1, 1, 1, 1, 0, 0], "f4")
    (found,) = compare(["y"], [Answers("c", {"y": a}, {"y": b})], tolerance=0.2)
    assert found.relative < 0.01
    assert found.loss == "[:, :, 4] is constant, but varies in the original"
    assert not within(found, 0.2)
    assert within(found, 0.2, allow_loss=True)


def test_probabilities_of_what_is_not_there_may_be_zero():
    a = np.concatenate([np.full((1, 20, 1), 0.9), np.linspace(1e-3, 2e-3, 20).reshape(1, 20, 1)], -1)
    (found,) = compare(["y"], [Answers("c", {"y": a}, {"y": a * [1.0, 0.0]})], tolerance=0.2)
    assert found.loss == ""


def test_other_winners_in_most_rows_are_a_loss():
    a, b = np.array([[1.0, 0.99], [1.0, 0.98], [1.0, 0.5]]), np.array([[0.98, 1.0], [0.97, 1.0], [1.0, 0.5]])
    (found,) = compare(["y"], [Answers("c", {"y": a}, {"y": b})], 0.2, frozenset(["y"]))
    assert (found.top1, found.loss) == (pytest.approx(1 / 3), "only 33% of the rows have the same highest score")


def noisy(moved: list[float], exact: bool = False, quiet: int = 3, wrong: float = 1.001):
    """Compare cases, one of which is wrong in the export. moved: the original's outputs for slightly moved inputs."""
    cases = [Answers(f"c{n}", {"y": np.ones(4)}, {"y": np.ones(4)}) for n in range(quiet)]
    moves = [{"y": np.full(4, value)} for value in moved]
    (found,) = compare(["y"], [*cases, Answers("loud", {"y": np.ones(4)}, {"y": np.full(4, wrong)}, moves, exact)])
    return found


def test_what_the_original_itself_changes_by_is_no_difference():
    """A normalized image of a single color is rounding error times 316, in the original and in the export."""
    assert not within(noisy([]), 1e-4)
    assert not within(noisy([1.0, 1.00001]), 1e-4), "far less than the export differs by"
    assert within(noisy([1.0, 1.0005]), 1e-4)
    assert noisy([1.0, 1.0005]).left_out == []


def test_noise_that_is_rounding_by_itself_still_excuses_what_exceeds_it():
    """A slice near zero: the original changes by 0.9 millionths of the whole, the export by twice that."""
    a, b, moved = ({"y": np.array([[1.0, each]])} for each in (1e-3, 1e-3 + 1.8e-6, 1e-3 + 0.9e-6))
    (found,) = compare(["y"], [Answers("c", a, b, [moved])])
    assert within(found, 1e-4)


def test_noise_in_a_part_that_is_right_leaves_no_case_out():
    """One of three parts is zero except for rounding, and another differs by less than the noise in it."""
    a, b, moved = ({"y": np.array([[1.0, each, 1.0]])} for each in (1e-3, 1e-3 + 1.8e-6, 1e-3 + 0.9e-6))
    moved["y"][0, 2] += 2e-3
    (found,) = compare(["y"], [Answers("c", a, a), Answers("c", a, a), Answers("loud", a, b, [moved], exact=False)])
    assert found.left_out == []
    assert within(found, 1e-4)


def test_where_the_original_is_noise_alone_nothing_is_compared():
    assert noisy([1.5]).left_out == ["loud"]
    assert within(noisy([1.5]), 1e-4)
    assert noisy([float("nan")]).left_out == ["loud"]


def test_noise_excuses_no_case_that_is_meant_exactly():
    """2.5 moved by one unit is rounded the other way, but an export that rounds 2.5 itself differently is wrong."""
    found = noisy([1.5], exact=True, wrong=1.5)
    assert (found.left_out, found.differing) == ([], ["loud"])
    assert not within(found, 1e-4)


def test_a_wrong_part_is_not_excused_by_noise_in_another():
    a, b, moved = ({"y": np.array([[[1.0, 1.0]]]) * each} for each in ([1, 1], [1.5, 1.5], [1, 1.7]))
    good = Answers("good", a, a)
    (found,) = compare(["y"], [good, good, Answers("loud", a, b, [moved], exact=False)])
    assert found.differing == ["loud"]


def test_an_original_that_is_noise_on_most_inputs_proves_nothing():
    assert "provide real ones with --check" in noisy([1.5], quiet=0).problem


def ranked(scores: list[float]) -> Answers:
    """Return top-k scores and their positions. The export has the last two positions in the other order."""
    original = {"scores": np.array([scores], "f4"), "places": np.array([[7, 3, 5]])}
    return Answers(f"{scores}", original, {"scores": original["scores"], "places": np.array([[7, 5, 3]])})


def test_which_of_equal_scores_is_first_is_no_difference():
    natural = Answers("natural", *[{"scores": np.array([[0.9, 0.8, 0.1]], "f4"), "places": np.array([[1, 2, 3]])}] * 2)
    for scores, left_out in (([1.0, 1.0, 1.0], True), ([1.0, 0.9, 0.9], True), ([1.0, 0.9, 0.8], False)):
        _, places = compare(["scores", "places"], [natural, natural, ranked(scores)])
        assert bool(places.left_out) is left_out
        assert within(places, 1e-4) is left_out
    unranked = ranked([1.0, 0.5, 0.5])._replace(original={**ranked([0.5, 1.0, 1.0]).original})
    _, places = compare(["scores", "places"], [natural, natural, unranked])
    assert not within(places, 1e-4), "scores in any order are no ranking"
