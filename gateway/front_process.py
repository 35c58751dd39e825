"""One front process as the supervisor sees it: spawn, tell it the table, hear its figures, replace it."""

import asyncio
import itertools
import json
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from gateway.channel import DRAIN, SERVING, SNAPSHOT, TABLE, Channel
from gateway.engine.table import Table, table_to_json
from gateway.processes import pump_lines
from runtimes import wire
from runtimes.wire import Frame

log = logging.getLogger("front")

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class FrontOptions:
    """What a front gets at its start. Admission limits are this front's share of the gateway's."""

    number: int
    grpc_host: str
    grpc_port: int
    max_json_bytes: int
    max_body_bytes: int
    max_response_bytes: int
    max_requests: int
    max_admitted_bytes: int
    request_timeout_s: float
    grace_s: float


class FrontProcess:
    """`on_snapshot(number, figures)` gets what the front counted; `on_call` answers what it asks."""

    def __init__(
        self,
        options: Callable[[int], FrontOptions],
        http: socket.socket,
        on_snapshot: Callable[[int, list[dict[str, Any]]], None],
        on_call: Callable[[str, dict[str, Any]], Awaitable[Any]],
    ) -> None:
        self.number = next(_NUMBERS)
        self.serving = asyncio.Event()
        self._options = options(self.number)
        self._http = http
        self._on_snapshot = on_snapshot
        self._on_call = on_call
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run(self, table: Callable[[], Table]) -> int:
        """Its whole life; the exit code. `table` is asked for at the start."""
        ours, theirs = socket.socketpair()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.front.process",
            str(os.getpid()), str(theirs.fileno()), str(self._http.fileno()), json.dumps(asdict(self._options)),
            pass_fds=(theirs.fileno(), self._http.fileno()),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        try:
            self._channel = await Channel.open(ours, self._on_frame, self._on_call)
            self.tell(table())
            assert self._process.stdout is not None
            await pump_lines(self._process.stdout, logging.getLogger(f"front.{self.number}"))
            return await self._process.wait()
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            if self._channel is not None:
                self._channel.close()

    def tell(self, table: Table) -> None:
        if self._channel is not None:
            self._channel.send(TABLE, table_to_json(table))

    def drain(self, grace_s: float) -> None:
        """Refuse what is new, answer what is under way, then exit."""
        if self._channel is not None:
            self._channel.send(DRAIN, {"grace_s": grace_s})

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def _on_frame(self, frame: Frame) -> None:
        if frame.kind == SERVING:
            self.serving.set()
        elif frame.kind == SNAPSHOT:
            self._on_snapshot(self.number, wire.unpack_json(frame.body)["figures"])
