"""Which files of a model may be downloaded: those of its artifact, and no others."""

import os
from pathlib import Path

import pytest

from gateway.environments.runtime import discover
from gateway.errors import NotFound
from gateway.repository.artifact_files import ArtifactFiles, list_files
from gateway.repository.scan import scan
from tests.support import ROOT

RUNTIMES = discover()


def put(file: Path, content: bytes = b"x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def listed(repository: Path) -> ArtifactFiles:
    (config,) = scan(repository, RUNTIMES)
    return list_files(config)


def test_a_file_is_listed_without_what_is_next_to_it(tmp_path: Path) -> None:
    file = put(tmp_path / "m" / "1" / "net.onnx")
    for other in ("notes.txt", ".secret", "net.d/.secret"):
        put(file.parent / other)
    put(tmp_path / "m" / "model.toml", b"")
    assert listed(tmp_path) == ("onnxruntime_onnx", "net.onnx", {"net.onnx": file})


def test_a_folder_is_listed_whole(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1" / "model.savedmodel"
    names = {"saved_model.pb", "variables/variables.index", "assets/words in it.txt"}
    for name in names:
        put(folder / name)
    put(folder / ".hidden")
    os.close(os.open(os.fsencode(folder) + b"/\xff.txt", os.O_CREAT))
    found = listed(tmp_path)
    assert (found.platform, found.main, set(found.files)) == ("tensorflow_savedmodel", "saved_model.pb", names)


def test_parameters_and_weights_in_files_of_their_own_are_listed(tmp_path: Path) -> None:
    (digits,) = (config for config in scan(ROOT / "model_repo", RUNTIMES) if config.name == "digits_mxnet")
    assert set(list_files(digits).files) == {"digits-symbol.json", "digits-0000.params"}


def test_a_link_out_of_the_models_folder_is_left_out(tmp_path: Path) -> None:
    """Within the model's folder, links are usual: versions share large files."""
    secret = put(tmp_path / "elsewhere" / "key")
    folder = tmp_path / "repository" / "m" / "1" / "model.savedmodel"
    put(folder / "saved_model.pb")
    shared = put(tmp_path / "repository" / "m" / "shared" / "data")
    (folder / "variables").symlink_to(shared.parent)
    (folder / "key").symlink_to(secret)
    (folder / "more").symlink_to(secret.parent)
    assert listed(tmp_path / "repository").files == {
        "saved_model.pb": folder / "saved_model.pb",
        "variables/data": shared,
    }


def test_a_model_without_an_artifact_has_no_files(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    with pytest.raises(NotFound, match="model 'm' has no artifact: "):
        listed(tmp_path)
