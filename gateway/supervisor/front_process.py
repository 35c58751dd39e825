"""One front process as the supervisor sees it: spawn, tell it the table, hear its figures, replace it."""

import asyncio
import itertools
import json
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from gateway.domain.control import SendFigures, to_json
from gateway.domain.table import Table, table_to_json
from gateway.errors import ModelportError
from gateway.front.options import FrontOptions
from gateway.process.channel import DRAIN, SERVING, SNAPSHOT, TABLE, Channel
from gateway.process.child import Child
from runtimes import wire
from runtimes.wire import Frame

_NUMBERS = itertools.count(1)
# A front whose event loop is busy answers sooner; one that is stopped, never.
_REPORT_S = 0.5


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
        self._child: Child | None = None
        self._channel: Channel | None = None
        self._drain_s: float | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def run(self, table: Callable[[], Table]) -> int:
        """Its whole life; the exit code. `table` is asked for at the start. Raises OSError when it cannot start."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._channel = await Channel.open(ours, self._on_frame, self._on_call)
            command = [sys.executable, "-P", "-m", "gateway.front.process", str(os.getpid())]
            command += [str(theirs.fileno()), str(self._http.fileno()), json.dumps(asdict(self._options))]
            log = logging.getLogger(f"front.{self.number}")
            try:
                self._child = await Child.spawn(command, log, (theirs.fileno(), self._http.fileno()))
            except OSError:
                self._channel.close()
                raise
        try:
            self.tell(table())
            if self._drain_s is not None:
                self.drain(self._drain_s)
            return await self._child.wait()
        finally:
            self._channel.close()

    def tell(self, table: Table) -> None:
        if self._channel is not None:
            self._channel.send(TABLE, table_to_json(table))

    async def report(self) -> None:
        """Have its figures of now; a front that cannot tell them is not waited for."""
        if self._channel is None or not self.serving.is_set():
            return
        with suppress(ModelportError, TimeoutError):
            async with asyncio.timeout(_REPORT_S):
                verb, arguments = to_json(SendFigures())
                await self._channel.call(verb, **arguments)

    def drain(self, grace_s: float) -> None:
        """Refuse what is new, answer what is under way, then exit; also when it has yet to start."""
        self._drain_s = grace_s
        if self._channel is not None:
            self._channel.send(DRAIN, {"grace_s": grace_s})

    def kill(self) -> None:
        if self._child is not None and self._child.pid:
            self._child.kill()

    def _on_frame(self, frame: Frame) -> None:
        if frame.kind == SERVING:
            self.serving.set()
        elif frame.kind == SNAPSHOT:
            self._on_snapshot(self.number, wire.unpack_json(frame.body)["figures"])
