"""Which integers a model accepts, found by running it."""

import numpy as np
import pytest

from runtimes.id_ranges import MAX_IDS, find_limits, find_limits_of_large, wrap_ids

TOKENS = np.array([[-3, 40000, 5]])


@pytest.mark.parametrize("rows", [1, 2, 3, 50, 30522, MAX_IDS])
def test_the_number_of_rows_is_found(rows: int) -> None:
    asked = []

    def accepts(inputs):
        asked.append(inputs)
        return bool(np.all((inputs["ids"] >= 0) & (inputs["ids"] < rows)))

    assert find_limits(accepts, {"ids": TOKENS, "scale": np.ones(2)}) == {"ids": rows}
    assert len(asked) <= 19 + TOKENS.shape[1]


def test_each_input_has_a_range_of_its_own() -> None:
    def accepts(inputs):
        return bool(np.all(inputs["ids"] < 1000) and np.all(inputs["kinds"] < 2))

    assert find_limits(accepts, {"ids": TOKENS, "kinds": TOKENS, "mask": TOKENS}) == {
        "ids": 1000, "kinds": 2, "mask": MAX_IDS,
    }  # fmt: skip


@pytest.mark.parametrize("tables", [(4, 1000), (1000, 4, 4), (MAX_IDS, 2, 1)])
def test_each_column_may_have_a_table_of_its_own(tables: tuple[int, ...]) -> None:
    def accepts(inputs):
        return bool(np.all((inputs["x"] >= 0) & (inputs["x"] < tables)))

    given = {"x": np.full((2, len(tables)), -1)}
    limits = find_limits(accepts, given)
    assert limits == {"x": list(tables)}
    assert wrap_ids(given, limits)["x"].tolist() == [[size - 1 for size in tables]] * 2
    other = wrap_ids({"x": np.full((2, 9), -1)}, limits)["x"]
    assert other.tolist() == [[min(tables) - 1] * 9] * 2, "columns of another number of columns are not known"


def test_what_is_refused_for_another_reason_has_no_range() -> None:
    assert find_limits(lambda inputs: False, {"ids": TOKENS}) is None
    assert find_limits(lambda inputs: True, {"x": np.ones(2)}) is None


def test_small_datatypes_have_a_range_as_well() -> None:
    assert find_limits(lambda inputs: True, {"ids": np.array([1], "i1")}) == {"ids": MAX_IDS}
    given = {"ids": np.array([-128, -1, 127], "i1")}
    assert wrap_ids(given, {"ids": MAX_IDS})["ids"].tolist() == [126, 126, 0]


def test_both_ends_of_a_table_are_reached() -> None:
    given = {"ids": np.array([-1, 0, 1000, 999]), "x": np.ones(1)}
    taken = wrap_ids(given, {"ids": 1000})
    assert taken["ids"].tolist() == [999, 0, 0, 999]
    assert taken["x"] is given["x"]


def test_a_size_stays_small_next_to_a_large_integer() -> None:
    given = {"time": np.array([1 << 40]), "size": np.array([1 << 40]), "x": np.ones(1)}
    assert find_limits_of_large(lambda inputs: inputs["size"][0] <= MAX_IDS, given) == {"size": MAX_IDS}
    assert find_limits_of_large(lambda inputs: False, given) == {}
