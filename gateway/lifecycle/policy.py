"""Decides what to load and unload, from what should be served and what is: a pure function, tested as a table.

The states of one version of a model with one fingerprint (VersionKey):

    LOADING → READY → UNLOADING → gone
       ↓        ↑ (its worker died: LOADING again, still routed)
    UNAVAILABLE

One that is loaded on demand begins as UNLOADED, which admits requests, and the first one makes it LOADING. It is
UNLOADED again when others need its memory, and some time after it could not be loaded.

A version that should no longer be served stays until its successor has loaded, so that loading a new version never
leaves a model without an answer.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """The states of the v2 repository index."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADED = "UNLOADED"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


TRANSIENT = (State.LOADING, State.UNLOADING)


class VersionKey(NamedTuple):
    """One version of a model with particular files. When the files change, so does the fingerprint.

    version  "" for a model whose folder or configuration cannot be read
    """

    model: str
    version: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.model} version {self.version}" if self.version else self.model


class Action(NamedTuple):
    verb: str  # "load" or "unload"
    key: VersionKey


def next_actions(
    desired: Collection[VersionKey],
    actual: Mapping[VersionKey, State],
    changing: Collection[str] = (),
    restarting: Collection[VersionKey] = (),
) -> list[Action]:
    """Return what to do next.

    changing    models whose files are still being copied; nothing of them is unloaded
    restarting  those of the READY versions whose worker is being replaced. Requests wait for it, so such a version
                stays until then, unless another one with its number gets them
    """
    actions = [Action("load", key) for key in sorted(desired) if key not in actual]
    successors: dict[str, list[VersionKey]] = {}
    for key in desired:
        successors.setdefault(key.model, []).append(key)
    for key, state in sorted(actual.items()):
        if key in desired or state is State.UNLOADING or key.model in changing:
            continue
        following = successors.get(key.model, [])
        if key in restarting and following and all(each.version != key.version for each in following):
            continue
        if state is not State.READY or _can_be_replaced(following, actual):
            actions.append(Action("unload", key))
    return actions


def _can_be_replaced(successors: Collection[VersionKey], actual: Mapping[VersionKey, State]) -> bool:
    """Return whether there are no successors, or all of them have loaded or failed and at least one can answer.

    That includes one that its first request loads. If nobody has asked for it, nobody will make it READY.
    """
    states = [actual.get(key) for key in successors]
    if not states:
        return True
    can_answer = (State.READY, State.UNLOADED)
    settled = all(state in (*can_answer, State.UNAVAILABLE) for state in states)
    return settled and any(state in can_answer for state in states)
