"""A gateway as a child of a process that forwards requests to it: on loopback, and never outliving its parent."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence

from gateway.environments import leashed

_ADDRESS = re.compile(r"REST on http://([^\s,]+)")
# How many of its last lines a gateway that fails leaves in the error.
_LAST_LINES = 5


class GatewayFailed(RuntimeError):
    """The gateway did not start, or has ended. The message is one sentence, then the last lines of its log."""


class GatewayProcess:
    """`modelport serve`, with REST on a free port of loopback. Its log goes to this process's standard error.

    address  HOST:PORT of REST
    """

    def __init__(self, process: asyncio.subprocess.Process, leash: int) -> None:
        self._process = process
        self._leash = leash
        self._last: list[str] = []
        self._lines = asyncio.create_task(self._read_lines())
        self._address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.address = ""

    @classmethod
    async def start(cls, repository: str, flags: Sequence[str] = ()) -> "GatewayProcess":
        """Start it and wait until its ports are open; its models load after that. Raises GatewayFailed."""
        # Never 0.0.0.0: whoever may use the gateway is decided by what is in front of it.
        ports = [word for name in ("http", "grpc", "metrics") for word in (f"--{name}", "127.0.0.1:0")]
        command = [sys.executable, "-P", leashed.__file__, "gateway", "serve", repository, *ports, *flags]
        theirs, ours = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
            )
        finally:
            os.close(theirs)
        started = cls(process, ours)
        try:
            started.address = await started._address
        except BaseException:
            await started.stop()
            raise
        return started

    def check(self) -> None:
        """Raise GatewayFailed if it has ended."""
        if self._process.returncode is not None:
            raise GatewayFailed(
                "\n".join([f"the gateway has ended with exit code {self._process.returncode}", *self._last])
            )

    async def stop(self) -> None:
        """Have it answer what it has begun, and wait for its end. Those who call this bound the time."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await self._process.wait()
            await self._lines
        finally:
            os.close(self._leash)  # which kills what is left

    async def _read_lines(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode(errors="replace").rstrip()
            self._last = [*self._last, text][-_LAST_LINES:]
            print(text, file=sys.stderr, flush=True)
            if (found := _ADDRESS.search(text)) and not self._address.done():
                self._address.set_result(found[1])
        await self._process.wait()
        if not self._address.done():
            try:
                self.check()
            except GatewayFailed as error:
                self._address.set_exception(error)
