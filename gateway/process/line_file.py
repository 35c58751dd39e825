"""Appends lines to a file to which other processes append as well, without ever waiting for the disk.

A thread writes. Each write has whole lines only, and is one system call on a file that is open for appending, so that
lines of several processes never mix; on a pipe, that holds for writes of up to PIPE_BUF bytes.
"""

import asyncio
import logging
import os
import select
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

# How long lines are collected. A longer time loses more of them if the process crashes; a shorter one means more
# writes, which are few even so.
_COLLECT_S = 0.1
# Lines that wait for the disk, and as many that are being written. Further ones are only counted.
_MAX_WAITING_BYTES = 4 << 20
_MAX_WRITE_BYTES = 1 << 20
# How long closing waits for the disk.
_CLOSE_S = 2.0


def open_for_appending(path: Path) -> int:
    """Return a descriptor of a file that only its owner can read, which is created if it is missing. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


class LineFile:
    """`add` is called on the event loop.

    path        a file that was moved or deleted by another program, such as logrotate, is created again
    descriptor  of an open file or pipe, in place of a path
    what        names the file in the log
    open_file   returns a descriptor of the file at the path, and may raise OSError

    dropped  how many lines could not be kept or written so far
    """

    def __init__(
        self,
        path: Path | None,
        what: str,
        log: logging.Logger,
        descriptor: int = -1,
        open_file: Callable[[Path], int] = open_for_appending,
    ) -> None:
        self._path, self._what, self._log, self._descriptor = path, what, log, descriptor
        self._open_file = open_file
        self._max_write = _MAX_WRITE_BYTES
        self._lines: list[bytes] = []
        self._waiting = 0
        self._dropped = self._failed = 0  # by the event loop; by the thread
        self._timer: asyncio.TimerHandle | None = None
        self._writing = False
        self._reopen = False
        self._failing = False  # the log says so once
        self._is_broken = False  # a part of a line was written
        self._queue: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=what, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._dropped + self._failed

    def add(self, line: bytes) -> None:
        """Append a line, which has a line break."""
        if self._waiting > _MAX_WAITING_BYTES:
            self._dropped += 1
            return
        self._lines.append(line)
        self._waiting += len(line)
        if self._timer is None:
            self._start_timer()

    def reopen(self) -> None:
        """Open the file at the path again before the next line is written."""
        self._reopen = True

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue.put(self._lines)
        self._queue.put(None)
        self._lines = []
        self._thread.join(_CLOSE_S)

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_COLLECT_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._writing:  # the disk does not keep up
            self._start_timer()
            return
        self._writing = True
        self._queue.put(self._lines)
        self._lines, self._waiting = [], 0

    def _run(self) -> None:
        while (lines := self._queue.get()) is not None:
            self._write(lines)
            self._writing = False
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _write(self, lines: list[bytes]) -> None:
        left = len(lines)
        try:
            self._open()
            for group in self._groups(lines):
                self._append(b"".join(group))
                left -= len(group)
        except OSError as error:
            self._failed += left
            if not self._failing:
                self._log.error("the %s cannot be written: %s; requests are served nevertheless", self._what, error)
            self._failing = True
        else:
            if self._failing:
                self._log.warning("the %s is written again", self._what)
            self._failing = False

    def _groups(self, lines: list[bytes]) -> Iterator[list[bytes]]:
        group: list[bytes] = []
        size = 0
        for line in lines:
            if group and size + len(line) > self._max_write:
                yield group
                group, size = [], 0
            group.append(line)
            size += len(line)
        if group:
            yield group

    def _append(self, text: bytes) -> None:
        if self._is_broken:
            text = b"\n" + text
        written = os.write(self._descriptor, text)
        self._is_broken = not text[:written].endswith(b"\n")
        while written < len(text):  # the disk is full, or a signal came
            written += os.write(self._descriptor, text[written:])
        self._is_broken = False

    def _open(self) -> None:
        """Open the file if that is necessary. Raises OSError."""
        if self._path is not None:
            if self._descriptor >= 0 and (self._reopen or not self._is_in_place()):
                os.close(self._descriptor)
                self._descriptor = -1
            if self._descriptor < 0:
                self._reopen = False
                self._descriptor = self._open_file(self._path)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self._max_write = select.PIPE_BUF

    def _is_in_place(self) -> bool:
        assert self._path is not None
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False
