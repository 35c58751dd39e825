"""What to do next, from what should run and what runs: a pure function, tested as a table.

The life of one unit (a version of a model with one content):

    LOADING → READY → UNLOADING → gone
       ↓        ↑ (its worker died: LOADING again, still routed)
    UNAVAILABLE

A unit that is no longer wanted stays until what takes its place has settled, so that loading a
new version never leaves a model without an answer.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """The names of the v2 repository index."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


class Unit(NamedTuple):
    model: str
    version: str
    fingerprint: str


class Action(NamedTuple):
    verb: str  # "load" or "unload"
    unit: Unit


def next_actions(
    desired: Collection[Unit], actual: Mapping[Unit, State], changing: Collection[str] = ()
) -> list[Action]:
    """changing: models whose files are still being copied. They keep what they have until that is done."""
    actions = [Action("load", unit) for unit in sorted(desired) if unit not in actual]
    wanted: dict[str, list[Unit]] = {}
    for unit in desired:
        wanted.setdefault(unit.model, []).append(unit)
    for unit, state in sorted(actual.items()):
        if unit in desired or state is State.UNLOADING or unit.model in changing:
            continue
        if state is not State.READY or _replaced(wanted.get(unit.model, []), actual):
            actions.append(Action("unload", unit))
    return actions


def _replaced(successors: Collection[Unit], actual: Mapping[Unit, State]) -> bool:
    """Whether nothing is lost by unloading: no successor is wanted, or all have settled and one is ready."""
    states = [actual.get(unit) for unit in successors]
    if not states:
        return True
    settled = all(state in (State.READY, State.UNAVAILABLE) for state in states)
    return settled and State.READY in states
