"""The audit log: a line of JSON for each request that was refused, and for each that changes the server.

One thread writes it, so that a slow disk delays neither the supervisor nor a request.
"""

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from gateway.domain.caller import Event
from gateway.process.logs import rfc3339

log = logging.getLogger("audit")

# Lines that wait for the disk, about 4 MB. Further ones are only counted.
_MAX_WAITING = 1 << 14
# How often writing is tried again while it fails. Until then, lines wait.
_RETRY_S = 1.0
# How long stopping waits for the disk.
_CLOSE_S = 2.0


class AuditLog:
    """Appends to a file that only its owner can read, and rotates it: PATH, PATH.1, PATH.2, …

    max_bytes  the size at which the file is rotated; 0 for never
    files      how many files are kept, the current one included

    A file that was moved or deleted by another program, such as logrotate, is created again. Events that could not be
    kept are counted, in a line of their own. Raises OSError if the file cannot be opened.

    dropped  how many events could not be kept so far
    """

    def __init__(self, path: Path, max_bytes: int, files: int) -> None:
        self._path, self._max_bytes, self._files = path.absolute(), max_bytes, files
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size
        self._changed = Condition()
        self._lines: list[bytes] = []
        self._unreported = 0
        self.dropped = 0
        self._closing = False
        self._failing = False  # the log says so once
        self._thread = Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def record(self, event: Event) -> None:
        """Add an event of this process. May be called by any thread."""
        self.add([[time.time(), *event]])

    def add(self, events: Sequence[Sequence[Any]], dropped: int = 0) -> None:
        """Add events of a front: each is a time in seconds since 1970 and the fields of an Event.

        dropped  how many further events the front could not keep
        """
        with self._changed:
            kept = events[: max(_MAX_WAITING - len(self._lines), 0)]
            self._lines += [_line(*event) for event in kept]
            self._drop(dropped + len(events) - len(kept))
            self._changed.notify()

    def _drop(self, events: int) -> None:
        self.dropped += events
        self._unreported += events

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._unreported or self._closing)
                lines, self._lines = self._lines, []
                dropped, self._unreported = self._unreported, 0
                closing = self._closing
            if dropped:
                lines.append(_json_line(time=rfc3339(time.time()), dropped=dropped))
            left = self._write(lines)
            if left:
                with self._changed:
                    if dropped:
                        left.pop()
                    waiting = left + self._lines
                    self._lines = waiting[:_MAX_WAITING]
                    self._unreported += dropped
                    self._drop(len(waiting) - len(self._lines))
                    self._changed.wait_for(lambda: self._closing, 0 if closing else _RETRY_S)
        os.close(self._descriptor)

    def _write(self, lines: list[bytes]) -> list[bytes]:
        """Append the lines, and return those that could not be written."""
        done = 0
        try:
            self._reopen_if_moved()
            for line in lines:
                if self._max_bytes and 0 < self._size > self._max_bytes - len(line):
                    self._rotate()
                self._append(line)
                done += 1
        except OSError as error:
            if not self._failing:
                log.error("the audit log cannot be written: %s; requests are served nevertheless", error.strerror)
            self._failing = True
        else:
            if self._failing:
                log.warning("the audit log is written again")
            self._failing = False
        return lines[done:]

    def _append(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError:
            if written:  # a part of a line would spoil the next one
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += written

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _reopen_if_moved(self) -> None:
        try:
            is_ours = os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            is_ours = False
        if not is_ours:
            self._replace_descriptor()

    def _rotate(self) -> None:
        for number in range(self._files - 1, 0, -1):
            older, newer = self._numbered(number), self._numbered(number - 1)
            if newer.exists():
                newer.replace(older)
        if self._files == 1:
            self._path.unlink()
        self._replace_descriptor()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _replace_descriptor(self) -> None:
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size


def _line(seconds: float, action: str, model: str, peer: str, identity: str, what: str, outcome: str) -> bytes:
    """`identity` is null if the credentials were not accepted."""
    return _json_line(
        time=rfc3339(seconds),
        identity=identity or None,
        peer=peer,
        action=action,
        model=model,
        request=what,
        outcome=outcome,
    )


def _json_line(**fields: Any) -> bytes:
    # Everything but ASCII is escaped: names come from clients, and a line of the log must stay one line.
    return json.dumps(fields).encode("ascii") + b"\n"
