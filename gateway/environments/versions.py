"""Ranges of Python versions, as text for people."""

from packaging.specifiers import SpecifierSet

# Far above the minor of any Python 3 that exists or is planned.
_MINORS = range(100)


def humanize(pythons: str) -> str:
    """ ">=3.8,<3.12" → "3.8 to 3.11"."""
    minors = minors_within(pythons)
    if not minors or minors != list(range(minors[0], minors[-1] + 1)):
        return pythons
    first, last = minors[0], minors[-1]
    if last == _MINORS[-1]:
        return f"3.{first} or newer" if first else "3"
    if not first:
        return f"3.{last} or older"
    return f"3.{first}" if first == last else f"3.{first} to 3.{last}"


def newest_within(pythons: str) -> str:
    """Return the version to install: the newest; the oldest of a range without an upper limit, because that exists."""
    minors = minors_within(pythons)
    if not minors:
        return pythons.lstrip("=")
    return f"3.{minors[0] if minors[-1] == _MINORS[-1] else minors[-1]}"


def minors_within(pythons: str) -> list[int]:
    """Return the minors of Python 3 with a release in the range."""
    specifiers = SpecifierSet(pythons)
    return [minor for minor in _MINORS if any(specifiers.contains(f"3.{minor}.{micro}") for micro in (0, 5, 99))]
