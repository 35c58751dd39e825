"""gateway/lifecycle/needs_file.py: what models need, kept for the next start."""

from pathlib import Path

import pytest

from gateway.lifecycle import needs_file
from gateway.lifecycle.needs_file import NeedsFile
from gateway.lifecycle.policy import VersionKey

_A, _B, _C = (VersionKey(name, "1", "content") for name in ("a", "b/with: signs", "c"))


def test_two_gateways_keep_what_the_other_has_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "needs.json"
    NeedsFile(path).write({_A: 10, _B: 20})
    NeedsFile(path).write({_B: 30, _C: 40})
    assert NeedsFile(path).read() == {_A: 10, _B: 30, _C: 40}
    assert [each.name for each in path.parent.iterdir()] == ["needs.json"], "no draft stays"


def test_the_oldest_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs_file, "_MAX_MODELS", 2)
    file = NeedsFile(tmp_path / "needs.json")
    file.write({_A: 10, _B: 20})
    file.write({_A: 11, _C: 30})
    assert file.read() == {_A: 11, _C: 30}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"a": 1}',
        b'{"[1]": 1}',
        b'{"[\\"a\\", \\"1\\", \\"x\\"]": "many"}',
        b'{"[\\"a\\", \\"1\\", \\"x\\"]": 1e999}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_damaged_file_is_replaced(tmp_path: Path, content: bytes) -> None:
    file = NeedsFile(tmp_path / "needs.json")
    (tmp_path / "needs.json").write_bytes(content)
    assert file.read() == {}
    file.write({_A: 10})
    assert file.read() == {_A: 10}


def test_a_folder_that_cannot_be_written_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").touch()
    with pytest.raises(OSError):
        NeedsFile(tmp_path / "folder" / "needs.json").write({_A: 10})
