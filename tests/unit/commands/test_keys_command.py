"""`modelport keys`: the key goes to standard output, and only its digest anywhere else."""

import io
from pathlib import Path

import pytest

from gateway.access.identities_file import build_policy, read_file
from gateway.access.keys import digest_of
from gateway.access.roles import read_roles
from gateway.cli import main


@pytest.mark.parametrize("name", ["ci", "team.a@example-1", "0"])
def test_a_new_key_with_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["keys", "new", name]) == 0
    printed = capsys.readouterr()
    key = printed.out.strip()
    assert key not in printed.err
    (tmp_path / "identities.toml").write_text(printed.err)
    policy, _ = build_policy(read_file(tmp_path / "identities.toml"), {})
    assert policy.keys == {digest_of(key): name}
    assert policy.clients[name].grants == read_roles(["infer", "read"])


@pytest.mark.parametrize("name", ["a:b", "", "anonymous", "a b"])
def test_names_that_cannot_be_used(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["keys", "new", name]) == 2
    assert f"keys new: '{name}' cannot be the name of an identity" in capsys.readouterr().err


def test_the_digest_of_a_key(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    key = "k" * 32
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{key}\n"))
    assert main(["keys", "hash"]) == 0
    assert capsys.readouterr().out == f"sha256:{digest_of(key)}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("short"))
    assert main(["keys", "hash"]) == 2
    assert "it has 5 characters, and needs at least 32" in capsys.readouterr().err
