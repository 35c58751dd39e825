"""A copy of a process that has imported a framework: it waits for the order that makes it a worker."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable

from gateway.lifecycle.worker_start import WorkerStart
from gateway.process.forked import ForkedProcess, reap_orphans

# How long a copy may take to receive its order: one that has just been made, and one that waits for it, so that it only
# has to read it. A larger value keeps a model waiting for one that was stopped; with a smaller one, more are made in
# vain on a busy machine.
_ORDER_S, _WAITING_ORDER_S = 20.0, 0.25


class CannotFork(Exception):
    """The message completes "because …". for_good: whether another attempt would fail as well."""

    def __init__(self, message: str, for_good: bool = False) -> None:
        super().__init__(message)
        self.for_good = for_good


class Copy:
    """A process that exists, and gets one order."""

    def __init__(self, pid: int, orders: socket.socket) -> None:
        """orders: where it waits. Raises CannotFork; the process is killed then."""
        self._orders = orders
        self._waits = False
        try:
            self._process = ForkedProcess(pid)
        except OSError as error:
            orders.close()
            os.kill(pid, signal.SIGKILL)
            reap_orphans(pid)
            raise CannotFork(f"a copy could not be watched ({error.strerror})") from None

    @property
    def pid(self) -> int | None:
        """The process id; None once it has ended."""
        return self._process.pid if self._process.returncode is None else None

    def on_end(self, call: Callable[[], None]) -> None:
        """Have this called when the process has ended, at once if it has."""
        if self._process.returncode is None:
            self._process.on_end = call
        else:
            call()

    async def answered(self, timeout_s: float) -> bool:
        """Wait until a spare waits for its order, or a copy has got it. Return whether that is so."""
        try:
            async with asyncio.timeout(timeout_s):
                self._waits = bool(await asyncio.get_running_loop().sock_recv(self._orders, 1))
        except (TimeoutError, OSError):
            self._waits = False
        return self._waits

    async def order(self, start: WorkerStart, output: int) -> ForkedProcess:
        """Make it a worker whose output goes to this descriptor. Raises CannotFork."""
        order = {
            "environment": dict(start.environment),
            "status": str(start.status_path),
            "box": start.box.to_json() if start.box else None,
        }
        with self._orders:
            try:
                socket.send_fds(self._orders, [json.dumps(order).encode()], [output, *start.descriptors])
            except OSError as error:  # too many files in the box, or the process has ended
                raise CannotFork(f"a copy could not be told what to do ({error.strerror})") from None
            if not await self.answered(_WAITING_ORDER_S if self._waits else _ORDER_S):
                raise CannotFork("a copy has ended, or did not answer")
        return self._process

    def kill(self) -> None:
        if self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill it, unless it is a worker, and wait for its end."""
        self._orders.close()
        self.kill()
        await self._process.wait()
