"""Which installed distributions need which others."""

from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def of_the_gateway() -> list[Distribution]:
    """Return modelport, then everything that it needs, directly or not.

    Packages of its extras are included if they are installed, and others in the same environment are not.
    """
    root = distribution("modelport")
    extras = root.metadata.get_all("Provides-Extra") or []
    found = {"modelport": root}
    waiting = requirements(root, extras)
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, wanted = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            found[name] = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        waiting += requirements(found[name], wanted)
    return [root, *(found[name] for name in sorted(found) if name != "modelport")]


def requirements(
    each: Distribution, extras: Iterable[str] = (), variables: Mapping[str, str] | None = None
) -> list[Requirement]:
    """Return what it requires with these extras. variables: of environment markers, other than this interpreter's."""
    found = []
    for text in each.requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**(variables or {}), "extra": extra}) for extra in ("", *extras)):
            found.append(requirement)
    return found
