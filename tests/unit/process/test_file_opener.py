"""A file that a process gets opened, because it may not open it itself."""

import os
import socket
from pathlib import Path

import pytest

from gateway.process.file_opener import FileOpener, serve_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "access.log"


def test_the_file_is_opened_wherever_it_is_now(path: Path) -> None:
    with serve_file(path) as connection:
        opener = FileOpener(connection)
        for number in range(3):
            descriptor = opener(path)
            assert not os.get_inheritable(descriptor)
            os.write(descriptor, b"line\n")
            os.close(descriptor)
            assert path.read_text() == "line\n"
            path.parent.rename(path.parent.with_name(f"logs.{number}"))
            path.parent.mkdir()


def test_why_a_file_cannot_be_opened(path: Path) -> None:
    with serve_file(path) as connection:
        opener = FileOpener(connection)
        path.parent.rmdir()
        with pytest.raises(FileNotFoundError, match=r"No such file or directory: .*access\.log"):
            opener(path)
        path.parent.mkdir()
        os.close(opener(path))


def test_the_other_side_is_gone() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs, pytest.raises(BrokenPipeError):
        FileOpener(theirs)(Path("access.log"))
