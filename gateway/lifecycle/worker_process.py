"""One worker process as an object, from its start to its end: LOAD, READY or FAILED, log lines, exit."""

import asyncio
import contextlib
import itertools
import logging
import signal
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.domain.table import WorkerAddress
from gateway.lifecycle.denied_calls import DeniedCalls
from gateway.lifecycle.launch import Launch
from gateway.lifecycle.worker_messages import read_message
from gateway.lifecycle.worker_start import WorkerStart, spawn
from gateway.lifecycle.zygote import Kind
from gateway.process.cgroup import MemoryGroup, has_exceeded
from gateway.process.channel import Channel
from gateway.process.child import Child, clean_environment
from gateway.process.folders import remove_folder
from gateway.process.resident import anonymous_bytes, private_bytes
from runtimes import memory, status_page, wire
from runtimes.contract import Signature
from runtimes.control import BatchingOff, Failed, Ready
from runtimes.status_page import StatusPage
from runtimes.wire import Frame

_IDS = itertools.count(1)
# Limits of what a worker may send, because it may be hostile. An honest one sends a few messages, and one more for each
# signature that it learns; the longest have thousands of tensors.
_MAX_FRAMES, _MAX_MESSAGE_BYTES = 1000, 1 << 24


class WorkerProcess:
    """Calls `on_change` when the worker has become ready, failed, learned a signature, or ended.

    slot     which of the version's instances it is
    check    called with the first READY; returns why the worker must not serve, or "" if it may
    ready    the newest READY; None until the check has passed
    load_s   seconds from the start until then
    failure  why the model cannot be loaded; another attempt would fail too
    learned  signature name → signature that the first successful request revealed
    """

    def __init__(
        self,
        launch: Launch,
        run_dir: Path,
        on_change: Callable[[], None],
        check: Callable[[Ready], Awaitable[str]],
        slot: int = 0,
    ) -> None:
        self.id = next(_IDS)
        self.launch = launch
        self.slot = slot
        self.ready: Ready | None = None
        self.load_s = 0.0
        self.failure = ""
        self.learned: dict[str, Signature] = {}
        self.ended = False
        self.exit_code: int | None = None
        self._started = time.monotonic()
        self._audits = (0, 0)
        self._begun = 0
        self._frames = self._invalid_checks = 0
        self._killed = False
        self._kill_reason = ""
        self._start_error = ""
        self._on_change = on_change
        self._check = check
        self._checking: asyncio.Task[None] | None = None
        self._loaded: Ready | None = None
        self._socket_path = run_dir / f"{self.id}.sock"
        self._status_path = run_dir / f"{self.id}.status"
        # A folder for the worker's temporary files, deleted when it ends, even after a crash. If the run directory is
        # not in TMPDIR (whose path may be too long for sockets), it is elsewhere: large files belong where TMPDIR says.
        self._temporary = run_dir / f"{self.id}.tmp"
        if run_dir.parent != Path(tempfile.gettempdir()):
            self._temporary = Path(tempfile.gettempdir(), f"{run_dir.name}-{self.id}.tmp")
        self._memory_group: MemoryGroup | None = None
        self._denied_calls: DeniedCalls | None = None
        self._child: Child | None = None
        self._channel: Channel | None = None
        self._status: StatusPage | None = None
        self._log = logging.getLogger(f"worker.{launch.model}")

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def address(self) -> WorkerAddress:
        assert self.ready is not None
        events = str(self._memory_group.events) if self._memory_group else ""
        paths = str(self._socket_path), str(self._status_path)
        return WorkerAddress(self.id, *paths, self.ready.window, self.ready.max_batch_size, events, self.slot)

    @property
    def audits(self) -> tuple[int, int]:
        """The counts of audits and differences from the status page. May be read on another thread."""
        try:
            return self._status.audits() if self._status is not None else self._audits
        except (ValueError, AttributeError):
            return self._audits  # the page was closed in the meantime

    @property
    def use(self) -> tuple[int, bool]:
        """How many requests it has begun, modulo 2**32, and whether one is running."""
        return (self._begun, False) if self._status is None else (self._status.begun(), bool(self._status.running()))

    async def run(self) -> None:
        """Start the process and wait for its end. Cancelling this kills the process."""
        try:
            await self._run_process()
        except OSError as error:
            self._start_error = f"its worker could not be started: {error.strerror or error}"
        finally:
            if self._checking is not None:
                self._checking.cancel()
            if self._channel is not None:
                self._channel.close()
            if self._denied_calls is not None:
                self._denied_calls.close()
            if self._memory_group is not None and has_exceeded(str(self._memory_group.events)):
                self._end_over_limit()
            if self._status is not None:
                self._audits, self._begun = self._status.audits(), self._status.begun()
                status, self._status = self._status, None
                status.close()
            self.ended = True
            self._socket_path.unlink(missing_ok=True)
            self._status_path.unlink(missing_ok=True)
            if self._memory_group is not None:
                self._memory_group.remove()
            self._on_change()
            await asyncio.to_thread(remove_folder, self._temporary)  # a hostile model may have made millions of files

    async def _run_process(self) -> None:
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            status_page.create(str(self._status_path))
            self._status = StatusPage(str(self._status_path))
            listener.bind(str(self._socket_path))
            listener.listen(64)
            self._channel = await Channel.open(ours, self._on_frame, max_bytes=_MAX_MESSAGE_BYTES)
            self._child = await self._start(theirs, listener, stack)
        if self._child is None:
            return
        if self._killed:
            self._child.kill()
        groups, limit = self.launch.memory_groups, self.launch.memory_limit
        if groups is not None and limit and self.pid:
            self._memory_group = groups.create(f"worker-{self.id}", limit)
            self._memory_group.add(self.pid)
        self._channel.send(wire.LOAD, self.launch.load.to_json())
        self.exit_code = await self._child.wait()

    async def _start(
        self, control: socket.socket, listener: socket.socket, stack: contextlib.ExitStack
    ) -> Child | None:
        """Return the process; None if it was stopped while it waited for one to copy."""
        self._temporary.mkdir(mode=0o700)
        environment = clean_environment() | {"TMPDIR": str(self._temporary)}
        box, reports = self.launch.box, None
        if box is not None:
            # Frameworks keep caches there, and Python asks for a name where the list of users cannot be read.
            environment |= {"HOME": str(self._temporary), "LOGNAME": "modelport"}
            ours, reports = socket.socketpair()
            stack.enter_context(reports)
            self._denied_calls = DeniedCalls(ours, self._log)
            box = box._replace(write=(*box.write, str(self._temporary)))
        environment.update(self.launch.environment)
        start = WorkerStart(control, listener, self._status_path, environment, box, reports)
        copied = await self._fork(start)
        if copied is not None or (self._killed and self.launch.zygotes is not None):
            return copied
        return await spawn(self.launch.python, start, self._log)

    async def _fork(self, start: WorkerStart) -> Child | None:
        zygotes = self.launch.zygotes
        return None if zygotes is None else await zygotes.start(self._kind, start, self._log)

    @property
    def _kind(self) -> Kind:
        launch = self.launch
        variables = tuple(sorted(launch.environment.items()))
        return Kind(launch.runtime, launch.python, Path(launch.load.runtime), launch.box is not None, variables)

    def _on_frame(self, frame: Frame) -> None:
        self._frames += 1
        try:
            message = read_message(frame)
        except wire.MALFORMED:
            self._end_invalid()
            return
        if self._frames > _MAX_FRAMES:
            self._end_invalid()
        elif isinstance(message, Ready):
            self._loaded = message
            if self.ready is None:
                self._checking = self._checking or asyncio.create_task(self._accept())
                return
            self.ready = message
        elif isinstance(message, Failed):
            self.failure = message.reason
        else:
            self.learned[message.name] = message.signature
        self._on_change()

    def _end_invalid(self) -> None:
        """End a worker that sends what no worker sends."""
        if not self._killed:
            self._kill_reason = "it did not keep to the protocol of workers"
            self.kill()

    async def _accept(self) -> None:
        """Become ready if the check passes; otherwise end as if the worker had sent FAILED."""
        assert self._loaded is not None
        try:
            reason = await self._check(self._loaded)
        except Exception:
            self._log.exception("the loaded model could not be checked")
            reason = "the loaded model could not be checked; the gateway's log says why"
        if self._killed:
            return
        if reason:
            self.failure = reason
            self.kill()
        else:
            self.load_s = time.monotonic() - self._started
            self.ready = self._loaded
            if self.launch.spare and self.launch.zygotes is not None:
                self.launch.zygotes.prepare(self._kind)
        self._on_change()

    def switch_batching_off(self, off: BatchingOff) -> None:
        """Switch batching off because another worker of this version has. The worker replies with another READY."""
        if self._channel is not None:
            self._channel.send(wire.BATCHING_OFF, dict(off._asdict()))

    def stop(self) -> None:
        """Ask the worker to end once every front has closed its connection. A worker that is not ready is killed."""
        if self.ready is None:
            self.kill()
        elif self._channel is not None:
            self._channel.send(wire.STOP, {})

    def kill(self) -> None:
        self._killed = True  # the process may not have started yet
        if self._child is not None and self._child.pid:
            self._child.kill()

    def enforce_limits(self) -> None:
        """Kill the worker if loading, or one batch, takes longer or more memory than model.toml allows."""
        if self.ended or self._status is None:
            return
        allowed = self.launch.memory_limit
        # The second figure is the one that counts; it takes longer to read.
        if allowed and not self._killed and (pid := self.pid) and anonymous_bytes(pid) > allowed < private_bytes(pid):
            self._end_over_limit()
            self.kill()
        # At the first sight, the worker may just be ending by itself.
        self._invalid_checks += self._status.is_invalid()
        if self._invalid_checks > 1:
            self._end_invalid()
        if self.ready is None:
            self._kill_if_late(self._started, self.launch.load_timeout_s, "it loaded for longer than load_timeout_s")
        elif since := self._status.busy_since():
            limit = self.launch.execution_timeout_s
            self._kill_if_late(since, limit, "a batch ran for longer than execution_timeout_s")

    def _end_over_limit(self) -> None:
        """Record that the worker is ended, or was, because it exceeded its memory limit. Fronts read it on the page."""
        limit = self.launch.memory_limit
        self._kill_reason = f"it used more memory than memory_limit = {memory.written(limit)}"
        if self.ready is None:
            self.failure = memory.too_small(limit)
        if self._status is not None:
            self._status.set_over_limit()

    def _kill_if_late(self, since: float, limit_s: float, what: str) -> None:
        if time.monotonic() - since >= limit_s:
            self._kill_reason = f"{what} = {limit_s:g}"
            self.kill()

    @property
    def has_crashed(self) -> bool:
        """Whether it ended although nobody wanted that, or because it broke a limit."""
        return bool(self._kill_reason) or (not self._killed and self.exit_code not in (0, None))

    def describe_end(self) -> str:
        """Return why the worker ended, for logs and errors."""
        if self.failure:
            return self.failure
        if self._kill_reason or self._start_error:
            return self._kill_reason or self._start_error
        if self.exit_code is not None and self.exit_code < 0:
            try:
                return f"its worker was killed by {signal.Signals(-self.exit_code).name}"
            except ValueError:
                return f"its worker was killed by signal {-self.exit_code}"
        return f"its worker ended with exit code {self.exit_code}"
