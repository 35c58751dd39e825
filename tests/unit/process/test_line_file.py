"""Lines that are appended to a file by several processes, or to a pipe: whole, in order, and without waiting."""

import asyncio
import logging
import os
from pathlib import Path
from threading import Thread

import pytest

from gateway.process import line_file
from gateway.process.line_file import LineFile

LOG = logging.getLogger("test")


def lines(name: str, count: int, size: int = 100) -> list[bytes]:
    return [f"{name} {number}".ljust(size - 1).encode() + b"\n" for number in range(count)]


def test_two_writers_append_whole_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "access.log"

    async def main() -> None:
        files = [LineFile(path, "access log", LOG) for _ in range(2)]
        for first, second in zip(lines("a", 3000), lines("b", 3000), strict=True):
            files[0].add(first)
            files[1].add(second)
        for file in files:
            file.close()
            assert file.dropped == 0

    asyncio.run(main())
    found = path.read_bytes().splitlines(keepends=True)
    assert [line for line in found if line.startswith(b"a")] == lines("a", 3000)
    assert [line for line in found if line.startswith(b"b")] == lines("b", 3000)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_moved_or_is_reopened_is_created_again(tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"

    async def main() -> None:
        file = LineFile(path, "access log", LOG)
        file._write([b"one\n"])
        path.rename(moved)
        file._write([b"two\n"])
        path.unlink()
        file.reopen()
        file._write([b"three\n"])
        file.close()

    asyncio.run(main())
    assert (moved.read_text(), path.read_text()) == ("one\n", "three\n")


def test_lines_beyond_the_limit_are_counted_while_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody reads is the slowest disk: adding never waits, and memory is bounded."""
    monkeypatch.setattr(line_file, "_MAX_WAITING_BYTES", 200_000)
    monkeypatch.setattr(line_file, "_COLLECT_S", 0)
    reading, writing = os.pipe()
    received = bytearray()

    def read() -> None:
        while data := os.read(reading, 1 << 16):
            received.extend(data)

    async def main() -> int:
        file = LineFile(None, "access log", LOG, writing)
        sent = lines("a", 20_000)
        for index, line in enumerate(sent):
            file.add(line)
            if not index % 1000:
                await asyncio.sleep(0)  # the timer of the file may run
        dropped = file.dropped
        assert dropped > 10_000
        reader.start()
        file.close()
        return dropped

    reader = Thread(target=read)
    dropped = asyncio.run(main())
    reader.join()
    os.close(reading)
    found = bytes(received).splitlines(keepends=True)
    assert len(found) == 20_000 - dropped
    assert set(found) <= set(lines("a", 20_000))


def test_a_file_that_cannot_be_written_is_logged_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"

    async def main() -> int:
        file = LineFile(folder / "access.log", "access log", LOG)
        file._write([b"one\n", b"two\n"])
        file._write([b"three\n"])
        folder.mkdir()
        file._write([b"four\n"])
        file.close()
        return file.dropped

    assert asyncio.run(main()) == 3
    assert (folder / "access.log").read_text() == "four\n"
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "the access log cannot be written: " in caplog.records[0].getMessage()


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="there is no /dev/full here")
def test_a_full_disk_is_no_error_of_the_program(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        file = LineFile(None, "access log", LOG, os.open("/dev/full", os.O_WRONLY))
        file.add(b"one\n")
        file.close()
        return file.dropped

    assert asyncio.run(main()) == 1
    assert "No space left" in caplog.text


def test_the_rest_of_a_broken_line_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, allowed = os.write, [3, 0]

    def full_disk(descriptor: int, text: bytes) -> int:
        if not allowed:
            return write(descriptor, text)
        if size := allowed.pop(0):
            return write(descriptor, text[:size])
        raise OSError(28, "No space left on device")

    async def main() -> int:
        file = LineFile(tmp_path / "access.log", "access log", LOG)
        monkeypatch.setattr(os, "write", full_disk)
        file._write([b"first\n"])
        file._write([b"second\n"])
        monkeypatch.undo()
        file.close()
        return file.dropped

    assert asyncio.run(main()) == 1
    assert (tmp_path / "access.log").read_text() == "fir\nsecond\n"
