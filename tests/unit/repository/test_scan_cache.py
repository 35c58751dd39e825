"""Folders that have not changed are not read again; every change by which a version would be another one is noticed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.repository.model_config import ModelConfig
from gateway.repository.scan_cache import ScanCache


class Reader:
    def __init__(self, folder: Path) -> None:
        self.cache, self.folder, self.reads, self.problem = ScanCache(), folder, 0, ""

    def __call__(self) -> list[ModelConfig]:
        return self.cache.read(self.folder, self._read)

    def _read(self) -> list[ModelConfig]:
        self.reads += 1
        return [ModelConfig("m", "1", "fingerprint", problem=self.problem)]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    (tmp_path / "m" / "1" / "variables").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.bin").write_text("weights")
    (tmp_path / "elsewhere").write_text("linked")
    (tmp_path / "m" / "linked").symlink_to(tmp_path / "elsewhere")
    return Reader(tmp_path / "m")


def test_an_unchanged_folder_is_read_once(reader: Reader) -> None:
    first = reader()
    assert reader() is first
    assert reader.reads == 1
    (reader.folder / ".hidden").write_text("no part of the model")
    assert reader() is first


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda folder: (folder / "1" / "model.bin").write_text("others"),
    "a new file": lambda folder: (folder / "model.toml").write_text(""),
    "a new folder": lambda folder: (folder / "2").mkdir(),
    "a file is gone": lambda folder: (folder / "1" / "model.bin").unlink(),
    "permissions": lambda folder: (folder / "1" / "model.bin").chmod(0o400),
    "times": lambda folder: os.utime(folder / "1" / "model.bin", (1, 1)),
    "deep below": lambda folder: (folder / "1" / "variables" / "index").write_text(""),
    "what a link leads to": lambda folder: (folder.parent / "elsewhere").write_text("something longer"),
    "a link that leads nowhere": lambda folder: (folder.parent / "elsewhere").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_changes_are_noticed(reader: Reader, change: Callable[[Path], object]) -> None:
    reader()
    change(reader.folder)
    reader()
    assert reader.reads == 2


def test_problems_are_looked_at_each_time_and_loops_end(reader: Reader) -> None:
    (reader.folder / "loop").symlink_to(reader.folder)
    reader.problem = "it is broken"
    reader()
    reader()
    assert reader.reads == 2
    reader.cache.keep([])
    reader.problem = ""
    reader()
    reader()
    assert reader.reads == 3
