"""One front's connections to workers."""

import asyncio
from collections.abc import Callable

from gateway.domain.table import WorkerAddress
from gateway.engine.arenas import Arenas
from gateway.engine.client import MakeCalls, WorkerClient
from gateway.engine.frames import Frames
from gateway.engine.queue import ModelQueue


class Connections:
    """At most one to each worker, which belongs to one queue as long as it lasts."""

    def __init__(
        self,
        arenas: Arenas | None,
        front: int,
        frames: Frames,
        max_response_bytes: int,
        make_calls: MakeCalls | None,
        is_listed: Callable[[WorkerAddress], bool],
        after_loss: Callable[[ModelQueue], None],
    ) -> None:
        """is_listed: whether the newest table has a worker.

        after_loss: called when a queue has lost a worker, and has sent its requests to others.
        """
        self._arenas, self._front, self._frames = arenas, front, frames
        self._max_response_bytes, self._make_calls = max_response_bytes, make_calls
        self._is_listed, self._after_loss = is_listed, after_loss
        self.clients: dict[int, tuple[WorkerClient, ModelQueue]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self, queue: ModelQueue, worker: WorkerAddress) -> None:
        """Connect a queue to a worker, unless there is a connection to it."""
        if worker.id in self.clients:
            return
        try:
            client = WorkerClient(
                worker,
                None if self._arenas is None else self._arenas.of(queue.status.name),
                queue.on_results,
                queue.on_error,
                self._on_lost,
                self._front,
                self._frames,
                self._max_response_bytes,
                self._make_calls,
            )
        except OSError:
            return  # the worker has already ended; the next table will not list it
        self.clients[worker.id] = (client, queue)
        task = asyncio.get_running_loop().create_task(self._finish(client, queue))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, client: WorkerClient, queue: ModelQueue) -> None:
        try:
            await client.connect()
        except OSError:
            self.clients.pop(client.address.id, None)
            return
        if client.address.id not in self.clients:
            return  # the connection was lost in the same turn of the loop
        if not self._is_listed(client.address):
            client.close()
            return
        queue.clients.append(client)
        queue.pump()

    def _on_lost(self, client: WorkerClient, running: frozenset[int]) -> None:
        _, queue = self.clients.pop(client.address.id, (client, None))
        if queue is None:
            return
        queue.on_lost(client, running)
        if client.closed and self._is_listed(client.address):
            self.connect(queue, client.address)  # closed just before a table listed it again
        self._after_loss(queue)
