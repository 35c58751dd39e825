"""Private folders of gateways that start at the same time."""

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.lifecycle.run_dir import new_run_dir


@pytest.fixture(autouse=True)
def _temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as short:  # tmp_path is too long for sockets
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield


def test_a_folder_is_not_taken_for_a_stale_one_while_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    real, others = fcntl.flock, list[Any]()

    def flock(file: Any, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not others:  # another gateway starts now
            others.append(None)
            others.append(new_run_dir())
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    folder, lock = new_run_dir()
    _, (other, its_lock) = others
    with lock, its_lock:
        assert folder.is_dir()
        assert other.is_dir()


def test_a_folder_that_a_killed_gateway_left_is_removed() -> None:
    stale = Path(tempfile.gettempdir()) / "modelport-stale"
    stale.mkdir()
    (stale / "lock").touch()
    _, lock = new_run_dir()
    with lock:
        assert not stale.exists()
