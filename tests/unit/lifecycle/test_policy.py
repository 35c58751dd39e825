"""The policy as a table: what should be served, what is, and the next actions."""

import pytest

from gateway.lifecycle.policy import Action, State, VersionKey, next_actions

V1, V2 = VersionKey("m", "1", "a"), VersionKey("m", "2", "a")
V1_CHANGED = VersionKey("m", "1", "b")
OTHER = VersionKey("other", "1", "a")
LOADING, READY, UNLOADING, UNAVAILABLE = State.LOADING, State.READY, State.UNLOADING, State.UNAVAILABLE
UNLOADED = State.UNLOADED
V2_CHANGED = VersionKey("m", "2", "b")

CASES = [
    ("nothing to do", [], {}, []),
    ("a new model is loaded", [V1], {}, [("load", V1)]),
    ("a loading version is left alone", [V1], {V1: LOADING}, []),
    ("a broken version is not tried again", [V1], {V1: UNAVAILABLE}, []),
    ("the old version stays while the new one loads", [V2], {V1: READY, V2: LOADING}, []),
    ("the old version goes when the new one is ready", [V2], {V1: READY, V2: READY}, [("unload", V1)]),
    ("the old version stays when the new one is broken", [V2], {V1: READY, V2: UNAVAILABLE}, []),
    ("a broken old version is unloaded immediately", [V2], {V1: UNAVAILABLE, V2: LOADING}, [("unload", V1)]),
    ("an old version that still loads is unloaded immediately", [V2], {V1: LOADING}, [("load", V2), ("unload", V1)]),
    ("new files of a version are loaded while the old ones run", [V1_CHANGED], {V1: READY}, [("load", V1_CHANGED)]),
    ("new files take over when ready", [V1_CHANGED], {V1: READY, V1_CHANGED: READY}, [("unload", V1)]),
    ("a removed model is unloaded", [OTHER], {V1: READY, OTHER: READY}, [("unload", V1)]),
    ("an unloading version is left alone", [], {V1: UNLOADING}, []),
    ("one of two desired versions is still loading", [V1, V2], {V1: READY, V2: LOADING}, []),
    ("a removed version does not wait for one on demand", [V1], {V1: UNLOADED, V2: READY}, [("unload", V2)]),
    (
        "new files of a version do not wait for another one on demand",
        [V1, V2_CHANGED],
        {V1: UNLOADED, V2: READY, V2_CHANGED: READY},
        [("unload", V2)],
    ),
    (
        "new files are still loaded before they take over",
        [V1, V2_CHANGED],
        {V1: UNLOADED, V2: READY, V2_CHANGED: LOADING},
        [],
    ),
]


@pytest.mark.parametrize(
    ("desired", "actual", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_next_actions(
    desired: list[VersionKey], actual: dict[VersionKey, State], expected: list[tuple[str, VersionKey]]
) -> None:
    assert next_actions(desired, actual) == [Action(*each) for each in expected]


def test_a_model_whose_files_are_being_copied_keeps_its_versions() -> None:
    actual = {V1: READY, V2: READY, OTHER: READY}
    assert next_actions([V2], actual, changing={"m"}) == [Action("unload", OTHER)]
    assert next_actions([V2], actual) == [Action("unload", V1), Action("unload", OTHER)]


def test_a_version_whose_worker_is_being_replaced_stays_for_its_requests() -> None:
    both = {V1: READY, V2: READY}
    assert next_actions([V2], both, restarting={V1}) == []
    assert next_actions([V2], both) == [Action("unload", V1)]
    assert next_actions([], {V1: READY}, restarting={V1}) == [Action("unload", V1)], "nothing takes its place"
    replaced = {V1: READY, V1_CHANGED: READY}
    assert next_actions([V1_CHANGED], replaced, restarting={V1}) == [Action("unload", V1)], "which gets its requests"
