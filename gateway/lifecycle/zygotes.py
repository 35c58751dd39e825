"""The processes that have imported a framework and are copied for workers, one for each kind of them."""

import asyncio
import contextlib
import logging
from pathlib import Path

from gateway.lifecycle.copy import CannotFork
from gateway.lifecycle.spare import IDLE_S as SPARE_IDLE_S
from gateway.lifecycle.worker_start import WorkerStart
from gateway.lifecycle.zygote import Kind, Zygote
from gateway.process.child import Child
from gateway.process.forked import become_subreaper

log = logging.getLogger("models")


class Zygotes:
    """One for each kind of workers, from the first worker of that kind on.

    Of kinds that differ in variables only, such as the number of threads, the newest has one: others take memory.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._is_supported: bool | None = None
        self._zygotes: dict[Kind, Zygote] = {}
        self._refused: set[Kind] = set()
        self._ends = False
        self._spares_from = 0.0  # by the loop's clock
        self._background: set[asyncio.Task[object]] = set()

    def named(self) -> dict[str, int]:
        """Return name → pid of the processes that run, spares among them. May be called on another thread."""
        every = list(self._zygotes.values())
        found = {each.name: each.pid for each in every} | {f"{each.name}-spare": each.spare.pid for each in every}
        return {name: pid for name, pid in found.items() if pid is not None}

    def spares(self) -> dict[str, list[int]]:
        """Return the name of a runtime → the pids of what waits to become its next workers: boxes make a difference."""
        found: dict[str, list[int]] = {}
        for kind, each in self._zygotes.items():
            if (pid := each.spare.pid) is not None:
                found.setdefault(kind.name, []).append(pid)
        return found

    def coming(self) -> dict[str, list[int]]:
        """Return the name of a runtime → the pids of what is being made to wait so; 0 for what does not exist yet."""
        found: dict[str, list[int]] = {}
        for kind, each in self._zygotes.items():
            if (pid := each.spare.coming) is not None:
                found.setdefault(kind.name, []).append(pid)
        return found

    def starting(self) -> list[int]:
        """Return the pids of what is becoming a worker, of which nobody else knows yet."""
        return [pid for each in self._zygotes.values() for pid in each.starting()]

    def ending(self) -> list[int]:
        """Return the pids of processes that were killed, but run for a moment, spares among them."""
        return [pid for each in self._zygotes.values() for pid in each.ending()]

    def pids(self) -> list[int]:
        """Return the pids of the processes that run. Their memory belongs to no worker."""
        return list(self.named().values())

    def importing(self) -> list[int]:
        """Return the pids of those that copies are made of, and that have, or will have, imported a framework."""
        return [each.pid for each in self._zygotes.values() if each.pid is not None and not each.has_ended]

    async def start(self, kind: Kind, start: WorkerStart, worker_log: logging.Logger) -> Child | None:
        """Return a worker; None if workers of this kind cannot be copies, or if this one could not."""
        starting = asyncio.create_task(self._start(kind, start, worker_log))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The process may exist already, without anybody who knows it.
            self._keep(asyncio.create_task(_discard(starting)))
            raise

    async def _start(self, kind: Kind, start: WorkerStart, worker_log: logging.Logger) -> Child | None:
        if self._is_supported is None:
            self._is_supported = become_subreaper()
        if not self._is_supported or self._ends or kind in self._refused:
            return None
        zygote = self._zygotes.get(kind)
        if zygote is None or zygote.has_ended:
            self._zygotes = {each: other for each, other in self._zygotes.items() if not other.is_cleared}
            for each, other in self._zygotes.items():
                if each[:-1] == kind[:-1]:
                    other.retire()
            zygote = self._zygotes[kind] = Zygote(kind, self._run_dir)
        try:
            return await zygote.fork(start, worker_log)
        except CannotFork as error:
            if kind not in self._refused and not self._ends:
                log.info("workers of %s are started as programs of their own, because %s", kind.name, error)
            if error.for_good:
                self._refused.add(kind)
            return None

    def prepare(self, kind: Kind) -> None:
        """Make a spare soon, unless there is one: the next worker of this kind needs not wait for its copy."""
        zygote = self._zygotes.get(kind)
        if zygote is not None and not zygote.has_ended and asyncio.get_running_loop().time() >= self._spares_from:
            zygote.spare.prepare()

    def end_spares(self) -> bool:
        """Kill spares, because others need their memory. Return whether there were any."""
        self._spares_from = asyncio.get_running_loop().time() + SPARE_IDLE_S
        dropped = [each.spare.drop() for each in self._zygotes.values()]
        return any(dropped)

    def end_idle(self) -> bool:
        """The same for spares and for those without workers."""
        had_spares = self.end_spares()
        idle = [each for each in self._zygotes.values() if not each.has_workers and not each.has_ended]
        for zygote in idle:
            zygote.end()
        return bool(idle) or had_spares

    def _keep(self, task: "asyncio.Task[object]") -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def end(self) -> None:
        """Kill all of them, so that nobody waits for their imports, and start no others. Workers are not affected."""
        self._ends = True
        for zygote in self._zygotes.values():
            zygote.end()

    async def close(self) -> None:
        """End all of them, and wait until their files have been removed."""
        self.end()
        await asyncio.gather(*(zygote.wait() for zygote in self._zygotes.values()), *self._background)


async def _discard(starting: "asyncio.Task[Child | None]") -> None:
    with contextlib.suppress(Exception):
        child = await starting
        if child is not None:
            child.kill()
            await child.wait()
