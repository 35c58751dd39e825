"""A child process: its lines reach the log, and nothing that it started outlives it."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping, Sequence

# What the last lines get to arrive after the process has ended.
_LAST_LINES_S = 1.0
# What a child that runs a framework needs of our own environment.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


def clean_environment() -> dict[str, str]:
    """Our own variables, but those that could change what a framework does."""
    return {key: os.environ[key] for key in _KEPT if key in os.environ}


class Child:
    """A process in a session, and so a process group, of its own: a Ctrl-C in the terminal does not reach it."""

    def __init__(self, process: asyncio.subprocess.Process, lines: "asyncio.Task[None]") -> None:
        self._process = process
        self._lines = lines

    @classmethod
    async def spawn(
        cls,
        command: Sequence[str],
        log: logging.Logger,
        pass_fds: Sequence[int],
        environment: Mapping[str, str] | None = None,
    ) -> "Child":
        """stdout and stderr go to `log`, line by line. Raises OSError."""
        # Not asyncio's own pipe: its wait() would wait for the pipe's end too, which a grandchild may hold open.
        ours, theirs = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                pass_fds=pass_fds,
                env=environment,
                start_new_session=True,
            )
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return cls(process, asyncio.create_task(_pump(ours, log)))

    @property
    def pid(self) -> int | None:
        """None when it has ended."""
        return self._process.pid if self._process.returncode is None else None

    async def wait(self) -> int:
        """Until it has ended; the exit code, negative for a signal. Cancelled: it is killed."""
        try:
            return await self._process.wait()
        finally:
            self.kill()
            await self._process.wait()
            await asyncio.wait([self._lines], timeout=_LAST_LINES_S)
            self._lines.cancel()

    def kill(self) -> None:
        """It and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


async def _pump(descriptor: int, log: logging.Logger) -> None:
    reader = asyncio.StreamReader()
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        try:
            await _log_lines(reader, log)
        finally:
            transport.close()


async def _log_lines(reader: asyncio.StreamReader, log: logging.Logger) -> None:
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            continue  # longer than the reader's buffer: that line is lost, the next is read
        if not line:
            return
        if text := line.decode(errors="replace").rstrip():
            log.info("%s", text)
