"""Which rows of docs/differences.md a difference may be: those that its draws bring out.

Draws that hold ordinary values alone bring out none: what differs there is no known disagreement of frameworks.
"""

from collections.abc import Iterable

_TAILS = ("sigmoid-tail", "softplus-tail")
_BELOW_ZERO = ("integer-division", "float-remainder")
_ALIKE = ("top-k-tie", "normalised-constant")
_ROWS = {
    "tails": _TAILS,
    "hundreds": _TAILS,
    "minus_hundreds": (*_TAILS, *_BELOW_ZERO),
    "halves": ("round-half", *_BELOW_ZERO),
    "tenths": _BELOW_ZERO,
    "minus_ones": (*_BELOW_ZERO, *_ALIKE),
    "zeros": _ALIKE,
    "ones": _ALIKE,
}


def rows(cases: Iterable[str]) -> list[str]:
    """Of the names of cases that differ; [] if one of them needs another explanation."""
    found: dict[str, None] = {}
    for case in cases:
        known = _ROWS.get(case.partition("_batch")[0].partition(" ")[0], ())
        if not known:
            return []
        found.update(dict.fromkeys(known))
    return list(found)


def reference(cases: Iterable[str]) -> str:
    """For the end of a sentence."""
    found = rows(cases)
    return f"; frameworks disagree there, see docs/differences.md: {', '.join(found)}" if found else ""
