"""All front processes: a front that ends is replaced, until they drain, unless none could ever start."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

from gateway.front.options import FrontOptions
from gateway.supervisor.front_process import FrontCallbacks, FrontProcess, Message

log = logging.getLogger("gateway")

# Delay before a front that could not start is replaced. It doubles with each that fails in a row, up to the maximum.
# Without it, a front that always fails would use up a core. A longer one delays service once the cause is gone.
_RESPAWN_S = 0.5
_MAX_RESPAWN_S = 8.0
# How many may fail in a row before the gateway gives up, if none has ever served: then the installation is at fault,
# and whoever started the gateway should learn it. With fewer, it would not survive a short want of memory.
_MAX_FAILED_STARTS = 5
# The part of the grace period that is kept for fronts and workers to exit, after the last request. If it is too short,
# they are killed while they close connections; if it is too long, requests are cut off early.
_EXIT_S = 3.0


class NoFrontStarted(Exception):
    """No front has ever served, and several in a row could not start. Its text is one sentence for the operator."""


class Fronts:
    """Runs `count` fronts, which inherit the listening socket `http`. Iterating yields those that run. Thread-safe.

    restarts  how many fronts have been replaced
    """

    def __init__(self, count: int, http: socket.socket, options: Callable[[int], FrontOptions]) -> None:
        """options: returns those of the front with this number."""
        self.count = count
        self.restarts = 0
        self._http = http
        self._options = options
        self._running: dict[int, FrontProcess] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = asyncio.Event()
        self._has_served = False

    def __iter__(self) -> Iterator[FrontProcess]:
        return iter(list(self._running.values()))

    def __len__(self) -> int:
        return len(self._running)

    def start(self, callbacks: FrontCallbacks, on_serving: Callable[[], None]) -> None:
        """Start the fronts. `on_serving` is called when one accepts requests."""
        self._tasks = [asyncio.create_task(self._keep_running(callbacks, on_serving)) for _ in range(self.count)]

    async def until_failed(self) -> None:
        """Wait until it is certain that none can start. Raises NoFrontStarted then; returns if they have drained."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    def send(self, message: Message) -> None:
        """Send a message to every front."""
        for front in self:
            front.send(message)

    async def request_metrics(self) -> None:
        """Have every front send its current metrics. A front that is stopped is not waited for."""
        await asyncio.gather(*[front.request_metrics() for front in self])

    async def until_applied(self) -> None:
        """Wait until every front has applied what it was sent: any of them may get the client's next request."""
        await self.request_metrics()  # their answers come after they have read what was sent before

    async def drain(self, accept_s: float, grace_s: float) -> None:
        """Have the fronts finish the requests in progress and exit. They may accept new ones for `accept_s`.

        Returns when they have exited, or should have. Fronts and workers must exit within the grace period too: after
        it, a service manager may kill the gateway.
        """
        self._draining.set()
        exit_s = min(_EXIT_S, grace_s / 3)
        for front in self:
            front.drain(min(accept_s, grace_s - exit_s), grace_s - exit_s)
        _, late = await asyncio.wait(self._tasks, timeout=grace_s - exit_s / 2)
        if late:
            log.warning("a front did not exit in time; killing it")

    def kill(self) -> None:
        for front in self:
            front.kill()

    async def close(self) -> None:
        """End the fronts that still run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_running(self, callbacks: FrontCallbacks, on_serving: Callable[[], None]) -> None:
        """Run a front, and replace it whenever it ends. Raises NoFrontStarted."""

        def serves() -> None:
            self._has_served = True
            on_serving()

        failed = 0
        while not self._draining.is_set():
            front = FrontProcess(self._options, self._http, callbacks)
            self._running[front.number] = front
            serving = asyncio.create_task(_when_serving(front, serves))
            try:
                code = await front.run()
            except OSError as error:
                log.error("front %d could not be started: %s", front.number, error.strerror or error)
                code = 1
            finally:
                serving.cancel()
                del self._running[front.number]
                callbacks.on_end(front.number)
            if self._draining.is_set():
                return
            failed = 0 if front.serving.is_set() else failed + 1
            if failed >= _MAX_FAILED_STARTS and not self._has_served:
                raise NoFrontStarted(
                    f"no front could start: {failed} in a row failed, the last with code {code}; "
                    "the lines above say why, and if they name a module, install modelport again"
                )
            self.restarts += 1
            log.error("front %d exited with code %d; replacing it", front.number, code)
            if failed:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(_RESPAWN_S * 2.0 ** min(failed - 1, 8), _MAX_RESPAWN_S)):
                        await self._draining.wait()


async def _when_serving(front: FrontProcess, on_serving: Callable[[], None]) -> None:
    await front.serving.wait()
    on_serving()
