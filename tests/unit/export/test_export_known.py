"""Messages refer to the sections of docs/differences.md that may explain a difference."""

import re

import pytest

from gateway.export.draws import DRAWS
from gateway.export.known import _SECTIONS, reference, sections
from tests.support import ROOT

PAGE = ROOT / "docs" / "differences.md"


def test_every_section_and_every_draw_exists() -> None:
    headings = set(re.findall(r"^## ([a-z0-9-]+)$", PAGE.read_text(), re.MULTILINE))
    assert {section for each in _SECTIONS.values() for section in each} <= headings
    assert set(_SECTIONS) <= {draw.name for draw in DRAWS}


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
    assert sections(cases) == found
    assert bool(reference(cases)) == bool(found)
