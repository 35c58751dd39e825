"""What a repository asks for; one broken folder is its own problem."""

import os
from pathlib import Path

import pytest

from gateway.environments.runtime import discover
from gateway.repository.model_config import ModelConfigError, read_model_toml
from gateway.repository.scan import scan
from tests.unit.test_formats import torchscript

RUNTIMES = discover()


def add(repository: Path, name: str, version: str = "1") -> Path:
    file = repository / name / version / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_text(name)
    return file


def corrupt_archive(repository: Path) -> None:
    file = repository / "broken" / "1" / "model.pt"
    file.parent.mkdir(parents=True)
    torchscript(file)
    data = bytearray(file.read_bytes())
    data[data.rfind(b"PK\1\2") + 6] = 99  # the version that is needed to extract it
    file.write_bytes(data)


def name_that_is_not_utf8(repository: Path) -> None:
    os.makedirs(os.fsencode(repository) + b"/broken\xff/1")


def file_name_that_is_not_utf8(repository: Path) -> None:
    os.makedirs(os.fsencode(repository) + b"/broken/1")
    Path(os.fsdecode(os.fsencode(repository) + b"/broken/1/\xff.txt")).touch()


def version_that_is_a_file(repository: Path) -> None:
    (repository / "broken").mkdir()
    (repository / "broken" / "1").touch()


@pytest.mark.parametrize(
    "break_it", [corrupt_archive, name_that_is_not_utf8, file_name_that_is_not_utf8, version_that_is_a_file]
)
def test_a_broken_folder_is_its_own_problem(tmp_path: Path, break_it) -> None:  # type: ignore[no-untyped-def]
    add(tmp_path, "good")
    break_it(tmp_path)
    broken, good = sorted(scan(tmp_path, RUNTIMES), key=lambda config: config.name)
    assert (good.name, good.problem) == ("good", "")
    assert broken.problem
    broken.name.encode()


def test_hidden_files_and_strangers_change_nothing(tmp_path: Path) -> None:
    file = add(tmp_path / "repository", "m")
    for place in (tmp_path / "repository", file):
        (before,) = scan(place, RUNTIMES)
        (file.parent / ".model.onnx.swp").touch()
        (file.parent / "notes.txt").write_text(str(place)) if place is file else None
        (after,) = scan(place, RUNTIMES)
        assert after.fingerprint == before.fingerprint
    (file.parent / "model.onnx.data").touch()
    assert scan(file, RUNTIMES)[0].fingerprint != before.fingerprint


def test_parameters_that_cannot_cross_the_wall_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.toml"
    file.write_text("[parameters]\nwhen = 2024-01-01\n")
    with pytest.raises(ModelConfigError, match="its values must be strings, finite numbers, booleans, lists or tables"):
        read_model_toml(file)
