"""Archives: their files, and nothing outside of their folder, however they are made."""

import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest

from gateway.contents import archive as archives
from gateway.contents.archive import unpack
from gateway.contents.errors import StoreError


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


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "a/../../evil", "a//b", "a\\..\\b", "a\nb", "x" * 300, "d/" * 1500]
)
@pytest.mark.parametrize("kind", ["m.tar.gz", "m.zip"])
def test_names_that_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    make = tar if kind == "m.tar.gz" else zipped
    archive = make(tmp_path / kind, ("fine", b""), (name.rstrip("/"), b"evil"))
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


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "tar"])
def test_no_byte_of_a_compressed_archive_may_change(tmp_path: Path, ending: str) -> None:
    """An archive stays readable when a byte of a file changes: the checksum is behind all files."""
    path, content = tmp_path / "m.tar", bytes(range(256)) * 40
    with tarfile.open(path, "w" if ending == "tar" else f"w:{ending}", format=tarfile.USTAR_FORMAT) as file:
        for name in ("first", "second"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    data, wrong = bytearray(path.read_bytes()), []
    # Without compression, only headers have a checksum: this is that of the second file.
    places = range(0, len(data), 7) if ending != "tar" else range(512 + len(content), 1024 + len(content), 7)
    for place in places:
        data[place] ^= 0x10
        path.write_bytes(data)
        data[place] ^= 0x10
        try:
            found = unpacked(path, tmp_path / f"out{place}")
        except StoreError:
            continue
        if found != {"first": content, "second": content}:
            wrong.append(place)
    assert not wrong


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_with_a_changed_byte_is_refused(tmp_path: Path, method: int) -> None:
    content = bytes(range(256)) * 40
    with zipfile.ZipFile(tmp_path / "m.zip", "w", method) as file:
        file.writestr("model", content)
    data = bytearray((tmp_path / "m.zip").read_bytes())
    data[90] ^= 0x10
    (tmp_path / "m.zip").write_bytes(data)
    with pytest.raises(StoreError, match="damaged or encrypted"):
        unpacked(tmp_path / "m.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["m.tar.gz", "m.zip"])
@pytest.mark.parametrize("name", ["folder/", ".hidden"])
def test_entries_that_are_left_out_count(tmp_path: Path, kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes memory: an archive of nothing else would take all that there is."""
    monkeypatch.setattr(archives, "_MAX_FILES", 3)
    if kind == "m.zip":
        path = zipped(tmp_path / kind, *[(f"{number}/{name}", b"") for number in range(4)])
    else:
        entries = [tarfile.TarInfo(f"{number}/{name}") for number in range(4)]
        for entry in entries:
            entry.type = tarfile.DIRTYPE if name == "folder/" else tarfile.REGTYPE
        path = tar(tmp_path / kind, *entries)
    with pytest.raises(StoreError, match="more than 3 files"):
        unpacked(path, tmp_path / "out")


def test_hidden_entries_are_no_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_ALWAYS_ALLOWED", 1 << 20)
    with pytest.raises(StoreError, match="unpacks to more than"):
        unpacked(tar(tmp_path / "m.tgz", (".zeros", bytes(4 << 20))), tmp_path / "out")


def test_what_is_behind_the_last_file_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_ALWAYS_ALLOWED", 1 << 20)
    with tarfile.open(tmp_path / "m.tar", "w") as file:
        file.addfile(tarfile.TarInfo("model"))
    with lzma.open(tmp_path / "m.tgz", "wb") as packed:
        packed.write((tmp_path / "m.tar").read_bytes() + bytes(4 << 20))
    with pytest.raises(StoreError, match="too many bytes after its last file"):
        unpacked(tmp_path / "m.tgz", tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b")])
def test_two_entries_with_one_name_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    archive = zipped(tmp_path / "m.zip", *[(name, b"x") for name in names])
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="two entries with the same name"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_attributes_are_no_bombs(tmp_path: Path, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """tarfile reads them into memory, however long they are."""
    with tarfile.open(tmp_path / "m.tgz", "w:gz", format=kind) as file:
        for number in range(10):
            file.addfile(tarfile.TarInfo("/".join([f"{number}" * 200] * 9)))
    assert len(unpacked(tmp_path / "m.tgz", tmp_path / "fine")) == 10
    monkeypatch.setattr(archives, "_MAX_ATTRIBUTES", 15_000)
    with pytest.raises(StoreError, match="the attributes of the files in the archive have more than 15000 bytes"):
        unpacked(tmp_path / "m.tgz", tmp_path / "out")


@pytest.mark.parametrize("attributes", [{}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}])
def test_sparse_files_are_refused(tmp_path: Path, attributes: dict[str, str]) -> None:
    """The list of their parts has no limit in tarfile."""
    entry = tarfile.TarInfo("model")
    entry.pax_headers = attributes
    if not attributes:
        entry.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(StoreError, match="a sparse file"):
        unpacked(tar(tmp_path / "m.tgz", entry), tmp_path / "out")


def test_a_size_below_zero_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def frombuf(cls: type[tarfile.TarInfo], *given: object) -> tarfile.TarInfo:
        entry = cls("model")
        entry.size = -1
        return entry

    path = tar(tmp_path / "m.tgz", ("model", b""))
    monkeypatch.setattr(tarfile.TarInfo, "frombuf", classmethod(frombuf))
    with pytest.raises(StoreError, match="it is damaged"):
        unpacked(path, tmp_path / "out")
