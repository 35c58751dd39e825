"""A process that has imported a framework and starts workers as copies of itself (runtimes/worker/zygote.py)."""

import asyncio
import itertools
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any, NamedTuple

from gateway.lifecycle.copy import CannotFork, Copy
from gateway.lifecycle.spare import Spare
from gateway.lifecycle.worker_start import MAIN, WorkerStart
from gateway.process.child import Child, clean_environment
from gateway.process.folders import remove_folder
from gateway.process.forked import is_stopped

log = logging.getLogger("models")

# How long an import may take. A larger value keeps models waiting if one hangs; with a smaller one, imports from a slow
# disk are given up, and each worker imports for itself.
_IMPORT_S = 120.0
# How long a copy may take. A larger value keeps a model waiting for a zygote that hangs; with a smaller one, a busy
# machine imports again.
_FORK_S = 5.0
# How often it is looked whether a zygote that does not answer was stopped. A larger value keeps a model waiting for it.
_LOOK_S = 0.2
# How long a zygote without workers is kept. A larger value keeps memory for models that do not come back; with a
# smaller one, models that do have to wait for the import again.
_IDLE_S = 300.0
_THEIRS = "the process that imports the framework for them"
_ENDED = f"{_THEIRS} has ended"
_MAX_ANSWER_BYTES = 1 << 12


class Kind(NamedTuple):
    """What workers have in common that are copies of the same process.

    name       of the runtime; one with packages of its own has another one, although its folder is the same
    runtime    the folder of runtime.py
    variables  of the environment, beyond those that all workers have
    """

    name: str
    python: Path
    runtime: Path
    boxed: bool
    variables: tuple[tuple[str, str], ...]


class Zygote:
    """One such process, from its start to its end."""

    _numbers = itertools.count(1)

    def __init__(self, kind: Kind, run_dir: Path) -> None:
        self.name = f"zygote-{kind.name}-{next(self._numbers)}"
        self._kind = kind
        self._folder = run_dir / f"{self.name}.tmp"
        self._child: Child | None = None
        self._ends = self._retires = False
        self._pending = 0
        self._workers = 0  # and those that are to be started
        self._starting: set[Copy] = set()
        self._idle: asyncio.TimerHandle | None = None
        self.spare = Spare(self.name, lambda: self._copy(is_spare=True))
        self._lock = asyncio.Lock()  # held from a request to its answer
        self._requests, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.setblocking(False)
        self._importing = asyncio.create_task(self._import())
        self._running = asyncio.create_task(self._run())

    @property
    def pid(self) -> int | None:
        """The process id; None if the process does not run."""
        return self._child.pid if self._child else None

    @property
    def has_ended(self) -> bool:
        return self._ends or self.is_cleared or (self._child is not None and self._child.pid is None)

    @property
    def has_workers(self) -> bool:
        return self._workers > 0

    @property
    def is_cleared(self) -> bool:
        """Whether it has ended, and its files have been removed."""
        return self._running.done()

    async def _run(self) -> None:
        environment = clean_environment() | {"TMPDIR": str(self._folder)}
        if self._kind.boxed:
            environment |= {"HOME": str(self._folder), "LOGNAME": "modelport"}
        command = [str(self._kind.python), "-I", "-u", str(MAIN), str(os.getpid()), str(self._theirs.fileno())]
        command += [str(self._kind.runtime), str(int(self._kind.boxed))]
        try:
            self._folder.mkdir(mode=0o700)
            with self._theirs:
                self._child = await Child.spawn(
                    command,
                    logging.getLogger(self.name.replace("-", ".", 1)),
                    [self._theirs.fileno()],
                    environment | dict(self._kind.variables),
                )
            if self._ends:
                self._child.kill()
            await self._child.wait()
        except OSError as error:
            log.warning("%s could not be started: %s", self.name, error.strerror)
        finally:
            self._importing.cancel()
            self.spare.close()
            async with self._lock:  # a copy may still have to report its pid
                self._requests.close()
            await asyncio.to_thread(remove_folder, self._folder)

    async def _import(self) -> None:
        await self._answer(_IMPORT_S)

    async def fork(self, start: WorkerStart, worker_log: logging.Logger) -> Child:
        """Raises CannotFork."""
        self._workers += 1
        self._pending += 1
        try:
            await asyncio.wait([self._importing])
            if self._importing.cancelled():
                raise CannotFork(_ENDED)
            self._importing.result()
            return await self._start(start, worker_log)
        except BaseException:
            self._on_worker_end()
            raise
        finally:
            self._pending -= 1
            if self._retires and not self._pending:
                self.end()

    async def _start(self, start: WorkerStart, worker_log: logging.Logger) -> Child:
        spare = self.spare.take()
        if spare is not None:
            try:
                return await self._become_worker(spare, start, worker_log)
            except CannotFork:  # it has just ended, or the order is too long
                pass
        return await self._become_worker(await self._copy(), start, worker_log)

    async def _become_worker(self, copy: Copy, start: WorkerStart, worker_log: logging.Logger) -> Child:
        self._starting.add(copy)
        try:
            child = await Child.start(lambda output: copy.order(start, output), worker_log)
        except CannotFork:
            self.spare.discard(copy)  # nobody waits for the end of what hangs
            raise
        finally:
            self._starting.discard(copy)
        copy.on_end(self._on_worker_end)
        return child

    async def _copy(self, is_spare: bool = False) -> Copy:
        """Return a new copy. Raises CannotFork."""
        async with self._lock:
            orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            orders.setblocking(False)
            try:
                with theirs:
                    socket.send_fds(self._requests, [json.dumps({"spare": is_spare}).encode()], [theirs.fileno()])
                pid = (await self._answer(_FORK_S))["pid"]
            except BaseException as error:
                orders.close()
                if isinstance(error, OSError):
                    raise CannotFork(_ENDED) from None
                raise
        return Copy(pid, orders)

    async def _answer(self, timeout_s: float) -> dict[str, Any]:
        raw = await self._receive(timeout_s)
        if raw is None:
            self.end()
            # A copy may exist already, and reports its pid; otherwise, this is the end of the socket.
            raw = await self._receive(_FORK_S)
            if not raw:
                raise CannotFork(f"{_THEIRS} does not answer")
        if not raw:
            raise CannotFork(_ENDED)
        answer: dict[str, Any] = json.loads(raw)
        if "error" in answer:
            raise CannotFork(answer["error"], answer["for_good"])
        return answer

    async def _receive(self, timeout_s: float) -> bytes | None:
        """Return the next answer; b"" if none can come, because the process has ended, and no copy has still to report.

        None: nothing came in time, or nothing will come, because the process was stopped.
        """
        loop = asyncio.get_running_loop()
        ends, receiving = loop.time() + timeout_s, loop.create_task(loop.sock_recv(self._requests, _MAX_ANSWER_BYTES))
        try:
            while (left := ends - loop.time()) > 0:
                await asyncio.wait([receiving], timeout=min(left, _LOOK_S))
                if receiving.done():
                    return receiving.result()
                if self.pid is not None and is_stopped(self.pid):
                    return None
            return None
        except OSError:
            return b""
        finally:
            receiving.cancel()

    def _on_worker_end(self) -> None:
        self._workers -= 1
        self._rest()

    def _rest(self) -> None:
        """End later if there is no worker until then."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = None if self._workers else asyncio.get_running_loop().call_later(_IDLE_S, self.end)

    def retire(self) -> None:
        """End when those workers have been started that wait for it."""
        self._retires = True
        if not self._pending:
            self.end()

    def end(self) -> None:
        """Kill the process. Its workers are not affected."""
        self._ends = True  # it may not have started yet
        self.spare.close()
        if self._idle is not None:
            self._idle.cancel()
        if self._child is not None:
            self._child.kill()

    def starting(self) -> list[int]:
        """Return the pids of copies that are becoming workers."""
        return [copy.pid for copy in self._starting if copy.pid is not None]

    def ending(self) -> list[int]:
        """Return the pids of what was killed, but runs for a moment: of this process, and of its spares."""
        own = [self.pid] if self._ends and self.pid is not None else []
        return [*own, *self.spare.ending()]

    async def wait(self) -> None:
        await asyncio.gather(self._importing, self._running, self.spare.wait(), return_exceptions=True)
