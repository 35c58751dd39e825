"""Exports of models that compute in FP16 or BF16, or return FP8: what is noticed when the original in FP32 is known."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from ml_dtypes import finfo

from gateway.export.comparison import Answers, OutputDifference, compare, within
from gateway.export.verdict import rounding_notes
from runtimes.contract import TensorSpec, numpy_dtype

Round = Callable[[np.ndarray], np.ndarray]
RANDOM = np.random.default_rng(0)
FIRST, SECOND = RANDOM.normal(0, 0.3, (8, 16)), RANDOM.normal(0, 0.3, (16, 4))
BIAS = np.array([0.02, 0.04, -0.03, 0.02])
CASES = [RANDOM.normal(0, 10.0**size, (rows, 8)) for size in (-1, 0, 1) for rows in (1, 2, 7, 7)]
DATATYPES = ["FP16", "BF16", "FP8_E4M3FN", "FP8_E5M2"]


def rounded(datatype: str, array: np.ndarray) -> np.ndarray:
    return array.astype(numpy_dtype(datatype)).astype(np.float64)


def exact(array: np.ndarray) -> np.ndarray:
    return array


BF16, FP8 = partial(rounded, "BF16"), partial(rounded, "FP8_E4M3FN")


MISTAKES: list[Mapping[str, Any]] = [
    {"bias": np.zeros(4)},
    {"bias": BIAS * [1, 0, 1, 1]},
    {"leak": 0.05},
    {"scale": 1.03},
    {"scale": 0.97},
    {"weights": FP8},
    {"order": slice(None, None, -1)},
]


def network(
    x: np.ndarray,
    round_: Round,
    bias: np.ndarray = BIAS,
    leak: float = 0.0,
    scale: float = 1.0,
    weights: Round = exact,
    order: slice = slice(None),
) -> np.ndarray:
    """Two layers, of which each operator rounds."""
    first, second, bias = weights(BF16(FIRST)), weights(BF16(SECOND)), BF16(bias)
    hidden = round_(BF16(x[:, order]) @ first)
    hidden = np.where(hidden > 0, hidden, round_(leak * hidden))
    return scale * round_(round_(hidden @ second) + bias)


def answers(export: Callable[[np.ndarray], np.ndarray], datatype: str = "BF16", round_: Round = BF16) -> list[Answers]:
    """Pair the export with an original that rounds by `round_`."""
    dtype = numpy_dtype(datatype)
    return [
        Answers(
            f"c{number}",
            {"y": network(x, exact).astype(np.float32)},
            {"y": export(x).astype(dtype)},
            own={"y": network(x, round_).astype(dtype)},
        )
        for number, x in enumerate(CASES)
    ]


def differ(cases: list[Answers]) -> OutputDifference:
    (found,) = compare(["y"], cases)
    return found


@pytest.mark.parametrize("datatype", DATATYPES)
def test_an_export_that_rounds_its_outputs_only_matches(datatype: str) -> None:
    found = differ(answers(partial(network, round_=exact), datatype))
    assert (found.relative < 1e-6, found.problem, found.left_out) == (True, "", [])
    assert within(found, 1e-4)


def test_the_error_of_the_original_itself_is_reported() -> None:
    found = differ(answers(partial(network, round_=exact)))
    assert 2**-9 < found.own < 2**-4


def test_an_export_that_answers_as_the_original_does_matches() -> None:
    assert within(differ(answers(partial(network, round_=BF16))), 1e-4)


def test_an_export_that_rounds_elsewhere_is_noticed() -> None:
    """Rounded to fewer bits in between."""
    assert not within(differ(answers(partial(network, round_=FP8))), 1e-4)


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: next(iter(mistake)))
def test_mistakes_are_noticed(mistake: Mapping[str, Any], datatype: str) -> None:
    found = differ(answers(partial(network, round_=exact, **mistake), datatype))
    assert not within(found, 1e-4)
    assert not found.problem


@pytest.mark.parametrize("datatype", ["FP16", "FP8_E4M3FN", "FP8_E5M2"])
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: next(iter(mistake)))
def test_mistakes_are_noticed_where_the_original_in_fp32_is_not_known(
    mistake: Mapping[str, Any], datatype: str
) -> None:
    def pairs(export: Callable[[np.ndarray], np.ndarray]) -> list[Answers]:
        return [each._replace(original=each.own, own={}) for each in answers(export, datatype, exact)]

    def differs(export: Callable[[np.ndarray], np.ndarray]) -> bool:
        (found,) = compare(["y"], pairs(export), few_neighbors=True)
        return not within(found, 1e-4)

    assert differs(partial(network, round_=exact, **mistake))
    assert not differs(partial(network, round_=exact))
    assert not differs(lambda x: network(x, exact) * (1 + 1e-5))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_noticed(value: float) -> None:
    def broken(x: np.ndarray) -> np.ndarray:
        found = network(x, exact)
        found[0, 0] = value
        return found

    assert differ(answers(broken)).problem


def test_a_number_too_large_for_the_datatype_is_what_the_original_makes_of_it() -> None:
    """PyTorch makes it NaN."""
    precise = {"y": np.array([[500.0, 1.0]], np.float32)}
    nan, largest = ({"y": np.array([[each, 1.0]], numpy_dtype("FP8_E4M3FN"))} for each in (np.nan, 448.0))
    assert within(differ([Answers("c", precise, nan, own=nan)]), 1e-4)
    assert differ([Answers("c", precise, largest, own=nan)]).problem
    assert not within(differ([Answers("c", precise, largest, own=precise)]), 1e-4)


def test_cases_in_which_the_original_is_mostly_rounding_are_not_compared() -> None:
    right = answers(partial(network, round_=exact))
    off = {"y": right[3].original["y"] * 2}
    found = differ([*right[:3], right[3]._replace(own=off), *right[4:]])
    assert (found.left_out, within(found, 1e-4)) == (["c3"], True)
    many = [each._replace(own={"y": each.original["y"] * 2}) for each in right]
    assert "mostly rounding" in differ(many).problem


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_cases_in_which_a_step_of_the_original_was_too_large_are_not_compared(value: float) -> None:
    right = answers(partial(network, round_=exact), "FP16")
    own = right[3].own["y"].copy()
    own[0, 0] = value
    found = differ([*right[:3], right[3]._replace(own={"y": own}), *right[4:]])
    assert (found.left_out, within(found, 1e-4)) == (["c3"], True)
    broken = right[3]._replace(other={"y": own})  # the export's own overflow is none of the original's
    assert differ([*right[:3], broken, *right[4:]]).problem


@pytest.mark.parametrize(("share", "matches"), [(0.1, True), (0.9, False)])
def test_ranks_of_scores_may_differ_where_rounding_makes_scores_equal(share: float, matches: bool) -> None:
    ranks = np.arange(20)
    own = np.where(ranks < share * 20, ranks + 1, ranks)
    (found,) = compare(["y"], [Answers("c", {"y": ranks}, {"y": ranks}, own={"y": own})])
    assert within(found, 1e-4) is matches


def test_the_share_of_integers_in_which_the_original_differs_is_reported() -> None:
    ranks = np.arange(20)
    (found,) = compare(["y"], [Answers("c", {"y": ranks}, {"y": ranks}, own={"y": np.where(ranks < 5, 7, ranks)})])
    assert rounding_notes([TensorSpec("y", "INT64", (20,))], [found]) == [
        "output 'y' is compared with the original computed in FP32, from which up to 25% of the original's own numbers "
        "differ, because it rounds"
    ]


@pytest.mark.parametrize("datatype", DATATYPES)
def test_the_largest_and_the_smallest_numbers_are_equal_to_themselves(datatype: str) -> None:
    ends = finfo(numpy_dtype(datatype))
    y = np.array([[ends.max, 1, ends.min, ends.smallest_subnormal, 0, np.nan]], numpy_dtype(datatype))
    found = differ([Answers("c", {"y": y}, {"y": y.copy()})])
    assert (found.relative, found.problem) == (0.0, "")


def test_an_original_whose_shape_depends_on_the_datatype_is_not_compared() -> None:
    """As where it reads BF16 as 16-bit integers: FP32 is twice as many."""
    precise, own = {"y": np.arange(8)}, {"y": np.arange(4)}
    (found,) = compare(["y"], [Answers("c", precise, precise, own=own)])
    assert not within(found, 1e-4)


@pytest.mark.filterwarnings("error")
def test_huge_numbers_are_compared_without_a_warning() -> None:
    y = np.array([[3e38, -3e38, 1.0]] * 4 + [[-3e38, 3e38, 1.0]] * 4, np.float32)
    (found,) = compare(["y"], [Answers("c", {"y": y}, {"y": y.copy()})], classifiers=frozenset({"y"}))
    assert within(found, 1e-4)
    ranking = np.array([[3e38, 1.0, -3e38]], np.float32)
    assert within(differ([Answers("c", {"y": ranking}, {"y": ranking.copy()})]), 1e-4)
