"""Archives: their files, and nothing outside of their folder, however they are made."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from gateway.remote import archive as archives
from gateway.remote.archive import unpack
from gateway.remote.store import StoreError


def tar(path: Path, *entries: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                file.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                file.addfile(info, io.BytesIO(entry[1]))
    return path


def zipped(path: Path, *entries: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            file.writestr(zipfile.ZipInfo(name) if name.startswith("raw") else name, content)
    return path


def unpacked(archive: Path, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    unpack(archive, folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.onnx", "model.onnx.data"], ["model.onnx", "model.onnx.data"]),
        (["top/saved_model.pb", "top/variables/v"], ["saved_model.pb", "variables/v"]),
        (["./top/saved_model.pb"], ["saved_model.pb"]),
        (["top/top/model.onnx"], ["top/model.onnx"]),
        (["m/1/model.onnx", "m/model.toml"], ["m/1/model.onnx", "m/model.toml"]),
        (["m/1/model.onnx"], ["m/1/model.onnx"]),
        (["1/model.onnx"], ["1/model.onnx"]),
        (["a/1/x", "b/1/x"], ["a/1/x", "b/1/x"]),
        (["m/1/x", ".git/config", "__MACOSX/._x"], ["m/1/x"]),
    ],
)
@pytest.mark.parametrize("kind", ["m.tar.gz", "m.zip"])
def test_files(tmp_path: Path, kind: str, names: list[str], expected: list[str]) -> None:
    make = tar if kind == "m.tar.gz" else zipped
    path = make(tmp_path / kind, *[(name, name.encode()) for name in names])
    assert sorted(unpacked(path, tmp_path / "out")) == expected


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "a//b", "a\\..\\b", "a\nb", "x" * 300])
@pytest.mark.parametrize("kind", ["m.tar.gz", "m.zip"])
def test_names_that_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    make = tar if kind == "m.tar.gz" else zipped
    archive = make(tmp_path / kind, ("fine", b""), (name, b"evil"))
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="is refused"):
        unpack(archive, tmp_path / "out")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    entry = tarfile.TarInfo("link")
    entry.type, entry.linkname = kind, "/etc/passwd"
    archive = tar(tmp_path / "m.tgz", entry)
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="a link or a device"):
        unpack(archive, tmp_path / "out")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as file:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="a link or a device"):
        unpack(tmp_path / "m.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["m.tar.gz", "m.zip"])
def test_bombs_are_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_ALWAYS_ALLOWED", 1 << 20)
    make = tar if kind == "m.tar.gz" else zipped
    archive = make(tmp_path / kind, ("zeros", bytes(4 << 20)))
    assert archive.stat().st_size < 1 << 16
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="unpacks to more than"):
        unpack(archive, tmp_path / "out")


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_FILES", 3)
    archive = zipped(tmp_path / "m.zip", *[(f"f{number}", b"") for number in range(4)])
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="more than 3 files"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", ["m.tar.gz", "m.zip", "m.tar"])
def test_a_damaged_archive_is_refused(tmp_path: Path, kind: str) -> None:
    good = tar(tmp_path / "good.tar.gz", ("model", bytes(range(256)) * 100)).read_bytes()
    for content in (b"", b"no archive", good[: len(good) // 2]):
        (tmp_path / kind).write_bytes(content)
        folder = tmp_path / f"out{len(content)}"
        folder.mkdir()
        with pytest.raises(StoreError, match="cannot be unpacked"):
            unpack(tmp_path / kind, folder)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b")])
def test_two_entries_with_one_name_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    archive = zipped(tmp_path / "m.zip", *[(name, b"x") for name in names])
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="two entries with the same name"):
        unpack(archive, tmp_path / "out")
