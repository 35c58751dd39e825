"""`modelport serve`, up to the point where it opens its ports."""

import tarfile
from pathlib import Path

import pytest

from gateway.commands import serve
from gateway.config import Settings, SettingsError
from gateway.repository.archives import unpacked


class NoSupervisor:
    def __init__(self, *given: object) -> None:
        raise SettingsError("the ports would be opened now")


class NoLog:
    def __init__(self, *given: object) -> None:
        pass

    def install(self) -> None:
        pass


def archive(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as file:
        file.addfile(tarfile.TarInfo("model.onnx"))
    return path


def test_archives_of_a_repository_wait_for_the_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacking may take minutes, and whoever asks whether the server is live would end it."""
    monkeypatch.setenv("MODELPORT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(serve, "Supervisor", NoSupervisor)
    monkeypatch.setattr(serve, "LogOutput", NoLog)
    path = archive(tmp_path / "repository" / "m" / "1" / "model.tar.gz")
    contents = tmp_path / "home" / "archives" / "contents"
    with pytest.raises(SettingsError, match="ports would be opened"):
        serve.serve([str(tmp_path / "repository")], Settings(), frozenset())
    assert not list(contents.iterdir())
    assert (unpacked(path) / "model.onnx").is_file()
    # A single archive says whether there is anything to serve.
    path = archive(tmp_path / "single" / "model.tar.gz")
    with pytest.raises(SettingsError, match="ports would be opened"):
        serve.serve([str(path)], Settings(), frozenset())
    assert len(list(contents.iterdir())) == 2
    path.write_bytes(b"no archive")
    with pytest.raises(SettingsError, match="it is damaged"):
        serve.serve([str(path)], Settings(), frozenset())
