"""API keys and the folder of a mounted secret."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.access.keys import KeyFolder, check_key, digest_of, new_key, read_digest, read_folder

KEY = "mp_" + "Kk0_-" * 9
DIGEST = sha256(KEY.encode()).hexdigest()


def test_new_keys_are_long_random_and_usable() -> None:
    assert len({new_key() for _ in range(10)}) == 10
    assert check_key(KEY) == ""
    assert len(new_key()) == 46
    assert digest_of(KEY) == DIGEST


@pytest.mark.parametrize("text", [DIGEST, DIGEST.upper(), f"sha256:{DIGEST}", f" {DIGEST}\n"])
def test_digests_are_read(text: str) -> None:
    assert read_digest(text) == DIGEST


@pytest.mark.parametrize("text", ["", KEY, DIGEST[1:], f"sha1:{DIGEST}", "g" * 64])
def test_what_is_no_digest_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="it must be a SHA-256 digest of 64 hexadecimal digits") as caught:
        read_digest(text)
    assert not text or text not in str(caught.value)


def _write(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).touch(0o600)
        (folder / name).write_text(text)
    return folder


def test_each_file_has_the_keys_of_a_client(tmp_path: Path) -> None:
    folder = _write(tmp_path / "keys", ci=f"{KEY}\n", web=f"sha256:{DIGEST[::-1]}\n\n{KEY[::-1]}")
    (folder / "subfolder").mkdir()
    (folder / ".hidden").write_text("short")
    web = [DIGEST[::-1], digest_of(KEY[::-1])]
    assert read_folder(folder) == KeyFolder({"ci": [DIGEST], "web": web}, [])


def test_a_secret_that_kubernetes_mounts(tmp_path: Path) -> None:
    """The files are links into a folder, which is replaced as a whole by swapping one link."""
    folder, other = tmp_path / "mount", new_key()
    folder.mkdir()
    _write(folder / "..1", ci=KEY)
    (folder / "..data").symlink_to("..1")
    (folder / "ci").symlink_to("..data/ci")
    assert read_folder(folder).digests == {"ci": [DIGEST]}
    _write(folder / "..2", ci=other)
    (folder / "..new").symlink_to("..2")
    os.rename(folder / "..new", folder / "..data")
    assert read_folder(folder).digests == {"ci": [digest_of(other)]}


def test_keys_that_cannot_be_used_are_named_without_being_shown(tmp_path: Path) -> None:
    bad = {"short": "a" * 31, "form": "a key with spaces and 32 characters", "digest": "sha256:" + "z" * 64}
    folder = _write(tmp_path / "keys", **bad, good=KEY)
    (folder / "good").chmod(0o644)
    found = read_folder(folder)
    assert found.digests == {"good": [DIGEST]}
    assert len(found.problems) == 4
    text = "\n".join(found.problems)
    assert "a key of 'short' is not accepted: it has 31 characters, and needs at least 32" in text
    assert "a key of 'form' is not accepted: it has characters that a bearer token cannot have" in text
    assert "a key of 'digest' is not accepted: after sha256:, 64 hexadecimal digits are needed" in text
    assert "every user of this machine can read the keys of 'good'; set its mode to 0400" in text
    assert not any(secret in text for secret in [*bad.values(), KEY])


def test_a_file_of_keys_that_is_too_long_has_none(tmp_path: Path) -> None:
    """Read in part, its last line would be a part of a key, which would then be accepted as one."""
    folder = _write(tmp_path / "keys", long="\n".join([KEY] * 400), good=KEY)
    found = read_folder(folder)
    assert found.digests == {"good": [DIGEST]}
    assert found.problems == ["the keys of 'long' are not accepted: the file is over 16384 bytes"]
