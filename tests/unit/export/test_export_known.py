"""Differences that frameworks are known to have are referred to by their rows."""

import re

import pytest

from gateway.export.draws import DRAWS
from gateway.export.known import _ROWS, reference, rows
from tests.support import ROOT

PAGE = ROOT / "docs" / "differences.md"


def test_every_row_and_every_draw_is_one_that_there_is() -> None:
    headings = set(re.findall(r"^## ([a-z0-9-]+)$", PAGE.read_text(), re.MULTILINE))
    assert {row for each in _ROWS.values() for row in each} <= headings
    assert set(_ROWS) <= {draw.name for draw in DRAWS}


@pytest.mark.parametrize(
    ("cases", "found"),
    [
        (["tails_batch2"], ["sigmoid-tail", "softplus-tail"]),
        (["halves_batch2", "tenths_batch1"], ["round-half", "integer-division", "float-remainder"]),
        (["tails_batch2", "unit_batch7"], []),
        ([], []),
    ],
)
def test_what_ordinary_values_show_is_no_known_difference(cases: list[str], found: list[str]) -> None:
    assert rows(cases) == found
    assert bool(reference(cases)) == bool(found)
