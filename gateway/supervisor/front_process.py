"""One front process as the supervisor sees it: it is started, gets the table, reports metrics, drains and ends.

`Fronts` (fronts.py) has all of them.
"""

import asyncio
import itertools
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from gateway.access.policy import Policy, policy_to_json
from gateway.domain.control import SendMetrics, to_json
from gateway.domain.log_settings import LogSettings
from gateway.domain.table import Table, changes_to_json, table_to_json
from gateway.errors import ModelportError
from gateway.front.options import FrontOptions
from gateway.process.channel import (
    AUDIT,
    DRAIN,
    LOG_SETTINGS,
    POLICY,
    REFETCH,
    SERVING,
    SNAPSHOT,
    TABLE,
    TABLE_CHANGES,
    TLS,
    TRACED,
    UNLOGGED,
    WANTED,
    Channel,
)
from gateway.process.child import Child
from gateway.process.file_opener import serve_file
from gateway.process.forked import is_stopped
from gateway.process.logs import from_front
from gateway.process.tls import Pem
from runtimes import wire
from runtimes.wire import Frame


class Message(NamedTuple):
    """A frame for a front. kind: see process/channel.py."""

    kind: int
    body: Any


def table_message(table: Table) -> Message:
    return Message(TABLE, table_to_json(table))


def table_changes_message(before: Table, table: Table) -> Message:
    return Message(TABLE_CHANGES, changes_to_json(before, table))


def tls_message(pem: Pem) -> Message:
    return Message(TLS, pem._asdict())


def policy_message(policy: Policy) -> Message:
    return Message(POLICY, policy_to_json(policy))


def log_message(settings: LogSettings) -> Message:
    return Message(LOG_SETTINGS, settings.to_json())


@dataclass(frozen=True)
class FrontCallbacks:
    """What a front is started with, and what it reports. A front has a number, which no other front gets.

    current      returns what the front with this number must know before it serves, in this order
    on_call      handles a control request, by its verb and arguments
    on_snapshot  called with number, metrics and identities of a front
    on_audit     called with events for the audit log, and how many were dropped: see base/audit.py of the front
    on_refetch   called when a token has an unknown key
    on_traced    called with the number of a front, and what TraceTable.on_traced takes
    on_unlogged  called with how many lines of the access log could not be written
    on_wanted    called with model and version, if requests wait for them to be loaded
    on_end       called with the number of a front that has ended
    """

    current: Callable[[int], Iterable[Message]]
    on_call: Callable[[str, dict[str, Any]], Awaitable[Any]]
    on_snapshot: Callable[[int, list[dict[str, Any]], list[dict[str, Any]]], None]
    on_audit: Callable[[list[list[Any]], int], None]
    on_refetch: Callable[[], None]
    on_traced: Callable[[int, dict[str, int]], None]
    on_unlogged: Callable[[int], None]
    on_wanted: Callable[[str, str], None]
    on_end: Callable[[int], None]


_ENVIRONMENT = {
    # numpy's library for matrices, which a front does not multiply, would start threads before the front is in its box.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
# What the operator sets in the gateway's own environment takes precedence over these; GLIBC_TUNABLES does anyway.
_MALLOC = {
    # glibc's malloc would make up to eight heaps per core for threads. Each keeps the memory of the largest requests
    # that its threads have read, because malloc_trim does not return what is free at the end of such a heap. With two
    # heaps and the usual thresholds, threads that decode large images would return memory after each, and get it again.
    # These thresholds are the largest: half of such a heap, and all of it.
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
_NUMBERS = itertools.count(1)
# How long to wait for a front's newest metrics, and how often to look meanwhile whether it was stopped (SIGSTOP): then
# it never answers. One that gets little of a busy machine's time does, and without it, statistics would lack requests
# that were answered, and a model that was unloaded would still be served. A longer time delays all that when a front
# hangs; looking less often, when it is stopped.
_METRICS_TIMEOUT_S = 10.0
_LOOK_S = 0.5
# How long to wait for the last frames of a front that has ended. They have arrived, and are read in the next turns.
_LAST_FRAMES_S = 1.0


class FrontProcess:
    """serving: set when the front accepts requests."""

    def __init__(self, options: Callable[[int], FrontOptions], http: socket.socket, callbacks: FrontCallbacks) -> None:
        self.number = next(_NUMBERS)
        self.serving = asyncio.Event()
        self._options = options(self.number)
        self._http = http
        self._callbacks = callbacks
        self._child: Child | None = None
        self._channel: Channel | None = None
        self._drain: tuple[float, float] | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def run(self) -> int:
        """Start the process, send it what is current, wait for its end, and return its exit code.

        Raises OSError if the process cannot be started.
        """
        ours, theirs = socket.socketpair()
        with ExitStack() as passed:
            passed.enter_context(theirs)
            channel = await Channel.open(ours, self._on_frame, self._callbacks.on_call)
            try:
                self._child = await self._spawn(theirs, passed)
            except BaseException:
                channel.close()
                raise
        # Not before: a change that was sent meanwhile is part of what is current, and means nothing without the rest.
        self._channel = channel
        try:
            for message in self._callbacks.current(self.number):
                self.send(message)
            if self._drain is not None:
                self.drain(*self._drain)
            code = await self._child.wait()
            await asyncio.wait([channel.closed], timeout=_LAST_FRAMES_S)
            return code
        finally:
            channel.close()

    async def _spawn(self, control: socket.socket, passed: ExitStack) -> Child:
        """Start the process. `passed` closes what only the process needs. Raises OSError."""
        options, descriptors = self._options, [control.fileno(), self._http.fileno()]
        if options.access_log:
            opener = passed.enter_context(serve_file(Path(options.access_log))).fileno()
            options = replace(options, access_log_opener=opener)
            descriptors.append(opener)
        if options.access_log_descriptor >= 0:
            descriptors.append(options.access_log_descriptor)
        command = [sys.executable, "-P", "-m", "gateway.front.process", str(os.getpid())]
        command += [str(control.fileno()), str(self._http.fileno()), json.dumps(asdict(options))]
        log = logging.getLogger(f"front.{self.number}")
        to_record = partial(from_front, logger=log.name)
        return await Child.spawn(command, log, descriptors, {**_MALLOC, **os.environ, **_ENVIRONMENT}, to_record)

    def send(self, message: Message) -> None:
        """Send a message, unless the process is still being started: it will get all that is current."""
        if self._channel is not None:
            self._channel.send(message.kind, message.body)

    async def request_metrics(self) -> None:
        """Have the front send its current metrics. Returns without them if it is stopped, or hangs."""
        if self._channel is None or not self.serving.is_set():
            return
        verb, arguments = to_json(SendMetrics())
        answer = asyncio.ensure_future(self._channel.call(verb, **arguments))
        ends = time.monotonic() + _METRICS_TIMEOUT_S
        try:
            while not (await asyncio.wait([answer], timeout=_LOOK_S))[0]:
                if time.monotonic() >= ends or (self.pid is not None and is_stopped(self.pid)):
                    return
            with suppress(ModelportError):
                answer.result()
        finally:
            answer.cancel()

    def drain(self, accept_s: float, grace_s: float) -> None:
        """Have the front finish the requests in progress, and exit within `grace_s`. It need not have started yet.

        For the first `accept_s` of this, it accepts new requests.
        """
        self._drain = accept_s, grace_s
        if self._channel is not None:
            self._channel.send(DRAIN, {"accept_s": accept_s, "grace_s": grace_s})

    def kill(self) -> None:
        if self._child is not None and self._child.pid:
            self._child.kill()

    def _on_frame(self, frame: Frame) -> None:
        callbacks = self._callbacks
        if frame.kind == SERVING:
            self.serving.set()
        elif frame.kind == SNAPSHOT:
            body = wire.unpack_json(frame.body)
            callbacks.on_snapshot(self.number, body["metrics"], body["identities"])
        elif frame.kind == TRACED:
            callbacks.on_traced(self.number, wire.unpack_json(frame.body))
        elif frame.kind == UNLOGGED:
            callbacks.on_unlogged(wire.unpack_json(frame.body)["lines"])
        elif frame.kind == WANTED:
            body = wire.unpack_json(frame.body)
            callbacks.on_wanted(body["model"], body["version"])
        elif frame.kind == REFETCH:
            callbacks.on_refetch()
        elif frame.kind == AUDIT:
            body = wire.unpack_json(frame.body)
            callbacks.on_audit(body["events"], body["dropped"])
