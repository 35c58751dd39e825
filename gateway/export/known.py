"""Which sections of docs/differences.md may explain a difference, by the generated inputs that show it.

Draws of ordinary values have no section: a difference there is not a known disagreement between frameworks.
"""

from collections.abc import Iterable

_TAILS = ("sigmoid-tail", "softplus-tail")
_BELOW_ZERO = ("integer-division", "float-remainder")
_ALIKE = ("top-k-tie", "normalised-constant")
_SECTIONS = {
    "tails": _TAILS,
    "hundreds": _TAILS,
    "minus_hundreds": (*_TAILS, *_BELOW_ZERO),
    "halves": ("round-half", *_BELOW_ZERO),
    "tenths": _BELOW_ZERO,
    "minus_ones": (*_BELOW_ZERO, *_ALIKE),
    "zeros": _ALIKE,
    "ones": _ALIKE,
}


def sections(cases: Iterable[str]) -> list[str]:
    """Return the sections for the names of the cases that differ; [] if one of them needs another explanation."""
    found: dict[str, None] = {}
    for case in cases:
        known = _SECTIONS.get(case.partition("_batch")[0].partition(" ")[0], ())
        if not known:
            return []
        found.update(dict.fromkeys(known))
    return list(found)


def reference(cases: Iterable[str]) -> str:
    """Return the end of a sentence that refers to these sections; "" if there are none."""
    found = sections(cases)
    return f"; frameworks disagree there, see docs/differences.md: {', '.join(found)}" if found else ""
