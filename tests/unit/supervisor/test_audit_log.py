"""The audit log's file: its lines, its rotation, and what happens when it cannot be written."""

import json
import logging
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from gateway.domain.caller import Event
from gateway.supervisor import audit_log
from gateway.supervisor.audit_log import AuditLog

WAIT_S = 30


def event(model: str = "m", **more: Any) -> Event:
    fields = {"action": "infer", "peer": "127.0.0.1:1", "identity": "alice", "what": "/v2", "outcome": "forbidden"}
    return Event(**{**fields, "model": model, **more})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def models(path: Path) -> list[str]:
    return [line["model"] for line in lines(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def messages() -> Iterator["SimpleQueue[str]"]:
    """What the module logs, from any thread."""
    found: SimpleQueue[str] = SimpleQueue()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.put(record.getMessage())

    handler = Handler()
    audit_log.log.addHandler(handler)
    yield found
    audit_log.log.removeHandler(handler)


def test_a_line_says_who_did_what_and_when(path: Path) -> None:
    log = AuditLog(path, 0, 1)
    log.add([[1.5, *event()], [1e9, *event("n", action="admin", identity="", what="POST /v2/x", outcome="ok")]])
    log.close()
    assert lines(path) == [
        {
            "time": "1970-01-01T00:00:01.500Z",
            "identity": "alice",
            "peer": "127.0.0.1:1",
            "action": "infer",
            "model": "m",
            "request": "/v2",
            "outcome": "forbidden",
        },
        {
            "time": "2001-09-09T01:46:40.000Z",
            "identity": None,
            "peer": "127.0.0.1:1",
            "action": "admin",
            "model": "n",
            "request": "POST /v2/x",
            "outcome": "ok",
        },
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_names_of_clients_cannot_break_lines(path: Path) -> None:
    """Line breaks of all kinds, terminal codes and lone surrogates are escaped."""
    name = 'a\n\r\x1b[2J\u2028\udc80"}\x00ß'
    log = AuditLog(path, 0, 1)
    log.record(event(name))
    log.close()
    (line,) = path.read_text("ascii").splitlines()
    assert json.loads(line)["model"] == name
    assert all(" " <= character <= "~" for character in line)


def test_the_log_is_appended_to(path: Path) -> None:
    for model in ("a", "b"):
        log = AuditLog(path, 0, 1)
        log.record(event(model))
        log.close()
    assert models(path) == ["a", "b"]


@pytest.mark.parametrize(("files", "kept"), [(1, [["4"]]), (3, [["4"], ["2", "3"], ["0", "1"]])])
def test_the_file_is_rotated_at_its_size(path: Path, files: int, kept: list[list[str]]) -> None:
    line = len(audit_log._line(0.0, *event("0")))
    log = AuditLog(path, 2 * line + 1, files)
    log.add([[0.0, *event(str(number))] for number in range(5)])
    log.close()
    found = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, len(kept)))]
    assert [models(each) for each in found] == kept
    assert sorted(path.parent.iterdir()) == sorted(found)


@pytest.mark.parametrize("is_recreated", [False, True])
def test_a_file_that_logrotate_has_moved_is_created_again(path: Path, is_recreated: bool) -> None:
    log = AuditLog(path, 0, 1)
    moved = path.rename(path.with_name("moved"))
    if is_recreated:
        path.touch()
    log.record(event("b"))
    log.close()
    assert models(path) == ["b"]
    assert moved.read_bytes() == b""


def test_a_full_disk_is_reported_once_and_survived(
    path: Path, messages: "SimpleQueue[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "_RETRY_S", 0.01)
    monkeypatch.setattr(audit_log, "_MAX_WAITING", 3)
    path.symlink_to("/dev/full")
    log = AuditLog(path, 0, 1)
    log.add([[0.0, *event("a")]], dropped=5)
    assert "cannot be written: No space left on device" in messages.get(timeout=WAIT_S)
    log.add([[0.0, *event(model)] for model in "bcdef"])
    new = path.with_name("new")
    new.touch()
    new.replace(path)
    assert messages.get(timeout=WAIT_S) == "the audit log is written again"
    log.close()
    assert messages.empty()
    found = lines(path)
    kept = [line["model"] for line in found if "model" in line]
    assert kept in (["a", "b", "c"], ["a", "b", "c", "d"])  # or the writer had taken "a" when the others came
    assert sum(line.get("dropped", 0) for line in found) == log.dropped == 5 + 6 - len(kept)
    assert all(line["time"].endswith("Z") for line in found)


def test_a_part_of_a_line_does_not_stay(path: Path, messages: "SimpleQueue[str]") -> None:
    """A sparse file that is as large as files of this process may be, but for half a line."""
    size = 1 << 30
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with path.open("wb") as file:
        file.truncate(size)
    log = AuditLog(path, 0, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, limits[1]))
    try:
        log.record(event())
        assert "cannot be written: File too large" in messages.get(timeout=WAIT_S)
        log.close()
        assert path.stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        AuditLog(tmp_path / "nosuch" / "file", 0, 1)
    assert os.listdir(tmp_path) == []
