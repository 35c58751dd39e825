"""Which models leave: pure functions, as tables."""

import pytest

from gateway.lifecycle.eviction import HALF_LIFE_S, Candidate, Known, Uses, choose, worths

SMALL, MIDDLE, LARGE = Candidate("small", 10, 3.0), Candidate("middle", 30, 2.0), Candidate("large", 100, 1.0)
CASES = [
    ("nothing is missing", [SMALL, LARGE], 0, []),
    ("there is nothing", [], 5, []),
    ("what is worth least goes first", [SMALL, MIDDLE], 5, ["middle"]),
    ("several go", [SMALL, MIDDLE], 35, ["middle", "small"]),
    ("all go if they do not suffice", [SMALL, MIDDLE], 1000, ["middle", "small"]),
    ("one that was not needed after all stays", [SMALL, Candidate("tiny", 1, 0.5), MIDDLE], 30, ["middle"]),
]


@pytest.mark.parametrize(("candidates", "missing", "expected"), [each[1:] for each in CASES], ids=[c[0] for c in CASES])
def test_choose(candidates: list[Candidate], missing: int, expected: list[str]) -> None:
    assert [each.name for each in choose(candidates, missing)] == expected


def test_uses_count_half_after_a_while() -> None:
    uses = Uses()
    uses.add(8, 100.0)
    assert uses.count(100.0 + HALF_LIFE_S) == pytest.approx(4)
    uses.add(1, 100.0 + HALF_LIFE_S)
    assert (uses.count(100.0 + HALF_LIFE_S), uses.last) == (pytest.approx(5), 100.0 + HALF_LIFE_S)


def test_models_that_are_alike_differ_by_their_use_only() -> None:
    alike = [Known(3, 0.030, 9_000_000), Known(4, 0.012, 10_000_000), Known(5, 0.020, 12_000_000)]
    assert worths(alike) == [3, 4, 5]
    slow, large = Known(1, 2.0, 9_000_000), Known(20, 0.02, 900_000_000)
    found = worths([*alike, slow, large])
    assert found[3] > max(found[:3])  # its load is much longer
    assert found[4] < min(found[:3])  # it takes much more
    assert worths([]) == []
