"""External weights of an ONNX model are read from a copy, so writing to the files does not change answers."""

import shutil
from pathlib import Path

import onnx
import pytest

from runtimes.contract import LoadError
from runtimes.onnx.private import private_copy


def model(folder: Path, *weights: str) -> Path:
    """Return the part of an ONNX file that names its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = []
    for name in weights:
        tensors.append(onnx.TensorProto(name=name, dims=[1], data_location=onnx.TensorProto.EXTERNAL))
        tensors[-1].external_data.add(key="location", value=name)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"old")
    graph = onnx.GraphProto(initializer=tensors)
    (folder / "model.onnx").write_bytes(onnx.ModelProto(graph=graph).SerializeToString())
    return folder / "model.onnx"


def test_a_model_without_weights_beside_it_is_read_where_it_lies(tmp_path: Path) -> None:
    file = model(tmp_path)
    (tmp_path / "notes.txt").touch()
    with private_copy(str(file)) as path:
        assert path == str(file)


def test_weights_are_copied_under_any_name_and_through_links(tmp_path: Path) -> None:
    file = model(tmp_path / "m", "model.onnx_data", "parts/w.0")
    (tmp_path / "m" / "other.bin").write_bytes(b"not its own")
    (tmp_path / "m" / "parts" / "w.0").rename(tmp_path / "blob")
    (tmp_path / "m" / "parts" / "w.0").symlink_to(tmp_path / "blob")
    with private_copy(str(file)) as path:
        own = Path(path)
        (tmp_path / "m" / "model.onnx_data").write_bytes(b"new")
        (tmp_path / "blob").write_bytes(b"")
        assert own.read_bytes() == file.read_bytes()
        assert sorted(str(each.relative_to(own.parent)) for each in own.parent.rglob("*") if each.is_file()) == [
            "model.onnx",
            "model.onnx_data",
            "parts/w.0",
        ]
        assert {(own.parent / name).read_bytes() for name in ("model.onnx_data", "parts/w.0")} == {b"old"}
    assert not own.parent.exists()


@pytest.mark.parametrize("name", ["../w.bin", "/w.bin", "gone.bin"])
def test_weights_that_are_not_beside_the_model_are_named(tmp_path: Path, name: str) -> None:
    file = model(tmp_path, "w.bin")
    content = file.read_bytes()
    graph = onnx.ModelProto.FromString(content)
    graph.graph.initializer[0].external_data[0].value = name
    file.write_bytes(graph.SerializeToString())
    with pytest.raises(LoadError, match=f"keeps weights in '{name}'"), private_copy(str(file)):
        pass


def test_a_file_that_is_cut_off_is_not_loaded(tmp_path: Path) -> None:
    file = model(tmp_path, "w.bin")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(LoadError, match="truncated"), private_copy(str(file)):
        pass


def test_a_file_that_changes_while_it_is_read_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both reads must see the same content, and a copy must not combine halves of two files."""
    alone, beside = model(tmp_path / "alone"), model(tmp_path / "beside", "w.bin")
    (tmp_path / "new").write_bytes(alone.read_bytes())
    with pytest.raises(LoadError, match=r"'model.onnx' changed while it was read"), private_copy(str(alone)):
        (tmp_path / "new").rename(alone)
    copied = shutil.copyfile

    def meanwhile(source: str, target: str) -> None:
        copied(source, target)
        with (tmp_path / "beside" / "w.bin").open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    with pytest.raises(LoadError, match=r"'w.bin' changed while it was read"), private_copy(str(beside)):
        pass


def test_no_room_for_the_copy_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = model(tmp_path, "w.bin")

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    said = "cannot be copied to the temporary folder: No space left on device; make room"
    with pytest.raises(LoadError, match=said), private_copy(str(file)):
        pass
