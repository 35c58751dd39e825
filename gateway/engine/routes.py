"""The table of models and workers, as this front lives by it: who answers for what, through which queue."""

import asyncio
from collections.abc import Iterator, Sequence

from gateway.domain.table import Table, WorkerAddress
from gateway.domain.types import ModelStatus, unavailable
from gateway.engine.arena import Arena
from gateway.engine.client import WorkerClient
from gateway.engine.metrics import FrontMetrics
from gateway.engine.queue import ModelQueue
from gateway.engine.servable import Servable
from gateway.errors import NotFound, Unavailable, shorten, unknown_model


class Routes:
    """One Servable per version of a model, and one connection per worker. Everything runs on one event loop.

    Every Servable is a ModelQueue today: what else answers for a version is made where `apply` makes these.
    """

    def __init__(self, metrics: FrontMetrics, arena: Arena | None = None, front: int = 0) -> None:
        self._metrics = metrics
        self._arena = arena
        self._front = front
        self._table = Table()
        self._by_model: dict[str, list[ModelStatus]] = {}
        self._queues: dict[tuple[str, str], ModelQueue] = {}
        # By what requests ask for, "" for a version too; made anew with each table.
        self._found: dict[tuple[str, str], Servable] = {}
        self._clients: dict[int, tuple[WorkerClient, ModelQueue]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """The server's readiness, as the supervisor settled it."""
        return self._table.ready

    @property
    def has_several_models(self) -> bool:
        return len(self._by_model) > 1

    def servables(self) -> Iterator[Servable]:
        yield from self._queues.values()

    def servable(self, name: str, version: str) -> Servable:
        """Where requests for this model go. Raises NotFound, as `model` does."""
        found = self._found.get((name, version))
        if found is None:
            status = self.model(name, version)
            found = self._queues[status.name, status.version]
            if version in ("", status.version):
                self._found[name, version] = found
        return found

    def models(self) -> Sequence[ModelStatus]:
        return [entry.status for entry in self._table.entries]

    def model(self, name: str, version: str = "") -> ModelStatus:
        """The version asked for; without one, the newest that takes requests, else the newest. Raises NotFound."""
        versions = self._by_model.get(name)
        if not versions:
            raise unknown_model(name)
        if version:
            for status in versions:
                if status.version == version.lstrip("0") or version in status.version_labels:
                    return status
            known = ", ".join(status.version for status in versions if status.version)
            raise NotFound(f"model '{name}' has no version '{shorten(version)}'; it has {known or 'none'}")
        return next((status for status in versions if status.admits), versions[0])

    def apply(self, table: Table) -> None:
        """Take over the supervisor's newest table: connect to new workers, let go of those that left."""
        self._table = table
        self._found.clear()
        by_model: dict[str, list[ModelStatus]] = {}
        for entry in table.entries:
            by_model.setdefault(entry.status.name, []).append(entry.status)
        for versions in by_model.values():
            versions.sort(key=lambda status: int(status.version or 0), reverse=True)
        self._by_model = by_model  # whole at once: requests that are slow to read ask from other threads
        wanted = {(entry.status.name, entry.status.version): entry for entry in table.entries}
        for key, entry in wanted.items():
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = ModelQueue(entry.status, self._metrics.of(*key), self._tidy)
            queue.closing = False
            queue.follow(entry.status)
            for worker in entry.workers:
                if worker.id not in self._clients:
                    self._connect(queue, worker)
            keep = {worker.id: worker for worker in entry.workers}
            for client in list(queue.clients):
                # One that was being replaced may be wanted again: its files were put back.
                client.retiring = client.address.id not in keep
                client.address = keep.get(client.address.id, client.address)  # its window may have changed
                queue.close_if_done(client)
            queue.pump()
            self._tidy(queue)
        for key, queue in list(self._queues.items()):
            if key not in wanted:
                queue.closing = True
                for client in list(queue.clients):
                    queue.close_if_done(client)
                self._tidy(queue)

    def _is_listed(self, worker: WorkerAddress) -> bool:
        return any(worker.id == each.id for entry in self._table.entries for each in entry.workers)

    def _connect(self, queue: ModelQueue, worker: WorkerAddress) -> None:
        try:
            client = WorkerClient(worker, self._arena, queue.on_frame, self._on_lost, self._front)
        except OSError:
            return  # it has ended already; the next table says so
        self._clients[worker.id] = (client, queue)
        task = asyncio.get_running_loop().create_task(self._finish_connecting(client, queue))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish_connecting(self, client: WorkerClient, queue: ModelQueue) -> None:
        try:
            await client.connect()
        except OSError:
            self._clients.pop(client.address.id, None)
            return
        if client.address.id not in self._clients:
            return  # it was lost in the same turn of the loop
        if not self._is_listed(client.address):
            client.close()
            return
        queue.clients.append(client)
        queue.pump()

    def _on_lost(self, client: WorkerClient, running: frozenset[int]) -> None:
        _, queue = self._clients.pop(client.address.id, (client, None))
        if queue is None:
            return
        queue.on_lost(client, running)
        if client.closed and self._is_listed(client.address):
            self._connect(queue, client.address)  # let go of just before the table asked for it again
        self._tidy(queue)

    def _tidy(self, queue: ModelQueue) -> None:
        """Answer what no worker will come for; forget a version that has left and has nothing more to answer."""
        status = queue.status
        if not queue.clients and not status.admits:
            queue.fail_queued(unavailable(status))
        if not queue.closing:
            return
        if not queue.clients:
            queue.fail_queued(Unavailable(f"model '{status.name}' version {status.version} was unloaded"))
        if not queue.under_way:
            for client in list(queue.clients):
                client.close()
            if self._queues.get((status.name, status.version)) is queue:
                del self._queues[status.name, status.version]
