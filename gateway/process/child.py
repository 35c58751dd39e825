"""A child process, whose output goes to the log. The processes that it started end with it."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from gateway.process.forked import reap_orphans

# How long to read a process's last lines after it has ended. A grandchild may hold the pipe open, so there must be a
# limit; if it is too short, the end of a traceback may be missing from the log.
_LAST_LINES_S = 1.0
# Longer lines are cut off, or dropped.
_MAX_LINE_BYTES = 1 << 16
# How many lines of a child's output are logged per second. A larger number takes more of the supervisor's time if a
# model prints in a loop; a smaller one may cut off tracebacks.
_LINES_PER_SECOND = 1000
ToRecord = Callable[[str], logging.LogRecord | None]

# The environment variables that a child with a framework needs from the gateway's own environment.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


def clean_environment() -> dict[str, str]:
    """Return the gateway's environment without the variables that could change how a framework behaves."""
    return {key: os.environ[key] for key in _KEPT if key in os.environ}


class Process(Protocol):
    """What a Child needs of asyncio.subprocess.Process, and what ForkedProcess has as well."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...


class Child:
    """A process in its own session, and therefore its own process group, so that Ctrl-C does not reach it."""

    def __init__(self, process: Process, lines: "asyncio.Task[None]") -> None:
        self._process = process
        self._lines = lines

    @classmethod
    async def spawn(
        cls,
        command: Sequence[str],
        log: logging.Logger,
        pass_fds: Sequence[int],
        environment: Mapping[str, str] | None = None,
        to_record: ToRecord = lambda line: None,
    ) -> "Child":
        """Start a process whose stdout and stderr go to `log`, line by line. Raises OSError.

        to_record  returns the record that a line has; None for other output
        """
        return await cls.start(
            lambda output: asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                env=environment,
                start_new_session=True,
            ),
            log,
            to_record,
        )

    @classmethod
    async def start(
        cls,
        process: Callable[[int], Awaitable[Process]],
        log: logging.Logger,
        to_record: ToRecord = lambda line: None,
    ) -> "Child":
        """The same for a process that is started otherwise.

        process  starts it with the descriptor for its output
        """
        # With asyncio's own pipe, wait() would also wait for the end of the pipe, which a grandchild may hold open.
        ours, theirs = os.pipe()
        try:
            started = await process(theirs)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return cls(started, asyncio.create_task(_pump(ours, _LimitedLines(log, to_record))))

    @property
    def pid(self) -> int | None:
        """The process id; None once the process has ended."""
        return self._process.pid if self._process.returncode is None else None

    async def wait(self) -> int:
        """Wait for the end and return the exit code, negative for a signal. Cancelling this kills the process."""
        try:
            return await self._process.wait()
        finally:
            self.kill()
            await self._process.wait()
            await asyncio.wait([self._lines], timeout=_LAST_LINES_S)
            self._lines.cancel()
            reap_orphans(self._process.pid)

    def kill(self) -> None:
        """Kill the process and all processes that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


async def _pump(descriptor: int, lines: "_LimitedLines") -> None:
    reader = asyncio.StreamReader()
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        try:
            await _log_lines(reader, lines)
        finally:
            transport.close()


async def _log_lines(reader: asyncio.StreamReader, lines: "_LimitedLines") -> None:
    rest = b""
    while data := await reader.read(_MAX_LINE_BYTES):
        *complete, rest = (rest + data).split(b"\n")
        lines.log(complete)
        if len(rest) > _MAX_LINE_BYTES:
            rest = b""
    lines.log([rest] if rest else [])
    lines.report()


class _LimitedLines:
    """Logs lines, up to _LINES_PER_SECOND, so that a model that prints in a loop does not take the gateway's time."""

    def __init__(self, log: logging.Logger, to_record: ToRecord) -> None:
        self._log, self._to_record = log, to_record
        self._since = 0.0
        self._left = self._dropped = 0

    def log(self, lines: list[bytes]) -> None:
        now = time.monotonic()
        if now - self._since >= 1.0:
            self.report()
            self._since, self._left = now, _LINES_PER_SECOND
        for line in lines[: self._left]:
            if text := line[:_MAX_LINE_BYTES].decode(errors="replace").rstrip():
                record = self._to_record(text)
                if record is None:
                    self._log.info("%s", text)
                elif self._log.isEnabledFor(record.levelno):
                    self._log.handle(record)
        self._dropped += max(0, len(lines) - self._left)
        self._left = max(0, self._left - len(lines))

    def report(self) -> None:
        """Log how many lines were not logged since the last report."""
        if self._dropped:
            self._log.warning(
                "%d lines of output are not shown: more than %d in a second", self._dropped, _LINES_PER_SECOND
            )
        self._dropped = 0
