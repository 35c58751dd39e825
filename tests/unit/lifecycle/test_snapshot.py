"""The versions that are found and stable after a scan, as a table."""

from collections.abc import Collection

import pytest

from gateway.lifecycle.policy import VersionKey
from gateway.lifecycle.snapshot import RepositorySnapshot, next_snapshot
from gateway.repository.model_config import ModelConfig

A, A_CHANGED, B, B_CHANGED = (VersionKey(name, "1", content) for name in "ab" for content in ("old", "new"))


def versions(*found: VersionKey) -> dict[VersionKey, ModelConfig]:
    return {key: ModelConfig(*key) for key in found}


def snapshot(found: Collection[VersionKey], stable: Collection[VersionKey] | None = None) -> RepositorySnapshot:
    return RepositorySnapshot(versions(*found), frozenset(found if stable is None else stable))


CASES = [
    ("all versions of the first scan are stable", None, [A, B], [], {}, snapshot([A, B])),
    ("a new version must be found twice", snapshot([A]), [A, B], [], {}, snapshot([A, B], [A])),
    ("a version that was found twice is stable", snapshot([A, B], [A]), [A, B], [], {}, snapshot([A, B])),
    ("a version that changed again is not stable", snapshot([B], []), [B_CHANGED], [], {}, snapshot([B_CHANGED], [])),
    ("a served version is stable, although it was missing", snapshot([B]), [A, B], [A], {}, snapshot([A, B])),
    ("a removed version is not found", snapshot([A, B]), [A], [A, B], {}, snapshot([A])),
    (
        "a requested model needs one scan; others need two",
        snapshot([]), [A, B], [], {"requested": {"b"}}, snapshot([A, B], [B]),
    ),
    (
        "a scan for one model leaves the others as they were",
        snapshot([A, B]), [A_CHANGED, B_CHANGED], [], {"requested": {"b"}, "only_requested": True},
        snapshot([A, B_CHANGED]),
    ),
    (
        "a scan for one model neither adds nor removes others",
        snapshot([A]), [B], [], {"requested": {"c"}, "only_requested": True}, snapshot([A]),
    ),
    (
        "a requested model that was removed",
        snapshot([A, B]), [], [], {"requested": {"b"}, "only_requested": True}, snapshot([A]),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("previous", "scanned", "served", "how", "after"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_next_snapshot(  # type: ignore[no-untyped-def]
    previous: RepositorySnapshot | None,
    scanned: list[VersionKey],
    served: list[VersionKey],
    how,
    after: RepositorySnapshot,
) -> None:
    assert next_snapshot(previous, versions(*scanned), served, **how) == after


def test_only_selected_and_stable_versions_are_loadable() -> None:
    selected = snapshot([A, A_CHANGED, B, B_CHANGED], [A, B, B_CHANGED]).selected(lambda name: name == "a")
    assert (set(selected.loadable()), selected.changing()) == ({A}, {"a"})
