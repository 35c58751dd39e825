"""The libraries of others in the console: unchanged, listed, and with their licenses."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from audit.vendor import Differs, integrity, unpack
from gateway.console.vendored import FOLDER, Library, libraries

LIBRARIES = libraries()


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.folder)
def test_a_library_is_as_it_was_published(library: Library) -> None:
    found = {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in (FOLDER / library.folder).iterdir()}
    assert found == {Path(path).name: digest for path, digest in library.files.items()}
    assert "LICENSE" in found


def test_nothing_else_is_vendored() -> None:
    assert {each.name for each in FOLDER.iterdir()} == {"vendor.toml", *(each.folder for each in LIBRARIES)}


def test_what_is_fetched_must_have_the_digests(tmp_path: Path) -> None:
    package = tmp_path / "some-1.0.tgz"
    with tarfile.open(package, "w:gz") as archive:
        entry = tarfile.TarInfo("package/dist/some.js")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"code"))
    digest = hashlib.sha256(b"code").hexdigest()
    good = Library("some", "some", "1.0", "MIT", integrity(package.read_bytes()), {"dist/some.js": digest})
    assert unpack(good, package) == {"some.js": b"code"}
    for bad, complaint in (
        (good._replace(integrity=integrity(b"")), "integrity"),
        (good._replace(files={"dist/some.js": "0" * 64}), "SHA-256"),
        (good._replace(files={"dist/other.js": digest}), "no file"),
    ):
        with pytest.raises(Differs, match=complaint):
            unpack(bad, package)
