"""What is found and stable after a scan, as a table."""

from collections.abc import Collection

import pytest

from gateway.lifecycle.policy import VersionKey
from gateway.lifecycle.snapshot import RepositorySnapshot, next_snapshot
from gateway.repository.scan import ModelConfig

A, A_CHANGED, B, B_CHANGED = (VersionKey(name, "1", content) for name in "ab" for content in ("old", "new"))


def versions(*found: VersionKey) -> dict[VersionKey, ModelConfig]:
    return {key: ModelConfig(*key) for key in found}


def snapshot(found: Collection[VersionKey], stable: Collection[VersionKey] | None = None) -> RepositorySnapshot:
    return RepositorySnapshot(versions(*found), frozenset(found if stable is None else stable))


CASES = [
    ("the first scan is believed", None, [A, B], [], {}, snapshot([A, B])),
    ("what is new must be seen twice", snapshot([A]), [A, B], [], {}, snapshot([A, B], [A])),
    ("what was seen twice is stable", snapshot([A, B], [A]), [A, B], [], {}, snapshot([A, B])),
    ("what has changed again is not", snapshot([B], []), [B_CHANGED], [], {}, snapshot([B_CHANGED], [])),
    ("what is served is stable, although it was gone", snapshot([B]), [A, B], [A], {}, snapshot([A, B])),
    ("what left is gone", snapshot([A, B]), [A], [A, B], {}, snapshot([A])),
    (
        "what is asked for waits for no second scan; another that is being copied does",
        snapshot([]), [A, B], [], {"requested": {"b"}}, snapshot([A, B], [B]),
    ),
    (
        "a scan for one model leaves the others as they were",
        snapshot([A, B]), [A_CHANGED, B_CHANGED], [], {"requested": {"b"}, "only_requested": True},
        snapshot([A, B_CHANGED]),
    ),
    (
        "nor does it bring new ones or take any away",
        snapshot([A]), [B], [], {"requested": {"c"}, "only_requested": True}, snapshot([A]),
    ),
    ("one model that has left", snapshot([A, B]), [], [], {"requested": {"b"}, "only_requested": True}, snapshot([A])),
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


def test_only_what_is_wanted_and_stable_is_loaded() -> None:
    wanted = snapshot([A, A_CHANGED, B, B_CHANGED], [A, B, B_CHANGED]).selected(lambda name: name == "a")
    assert (set(wanted.loadable()), wanted.changing()) == ({A}, {"a"})
