"""Applies the supervisor's tables in one front: finds the servable for a request, and keeps workers connected."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from gateway.domain.default_limits import CACHE_BYTES, MAX_RESPONSE_BYTES
from gateway.domain.pipeline import MAX_DEPTH
from gateway.domain.table import Table, TableEntry, WorkerAddress, changes
from gateway.domain.types import ModelStatus, by_model, select_version, unavailable
from gateway.engine.arenas import Arenas
from gateway.engine.caches import Caches
from gateway.engine.client import MakeCalls
from gateway.engine.connections import Connections
from gateway.engine.frames import Frames
from gateway.engine.metrics import FrontMetrics
from gateway.engine.pipeline import Models, Pipeline, reader_of
from gateway.engine.queue import ModelQueue
from gateway.engine.sequences import SequenceQueues
from gateway.engine.servable import Servable
from gateway.engine.shadow import Shadows
from gateway.engine.version_choice import VersionChoice
from gateway.errors import NotFound, Unavailable, shorten, unknown_model


class Routes:
    """Holds one Servable per version of a model, and one connection per worker. Everything runs on one event loop.

    A version with steps has a Pipeline, one of sequences SequenceQueues, every other a ModelQueue.
    """

    def __init__(
        self,
        metrics: FrontMetrics,
        arenas: Arenas | None = None,
        front: int = 0,
        frames: Frames | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        models: Models | None = None,
        make_calls: MakeCalls | None = None,
        cache_bytes: int = CACHE_BYTES,
        want: Callable[[str, str], None] = lambda model, version: None,
        shadows: Shadows | None = None,
    ) -> None:
        """models: answer the steps of pipelines; without them, there must be no pipelines.

        want: asks the supervisor to load a version on demand. shadows: copies requests; without it, none is copied.
        """
        self._want = want
        self._wanted: set[tuple[str, str]] = set()  # since they were unloaded
        self._models = models
        self._metrics = metrics
        self._arenas = arenas
        self._max_response_bytes = max_response_bytes
        self._caches = Caches(cache_bytes)
        self._shadows = shadows
        self._table = Table()
        self._entries: dict[tuple[str, str], TableEntry] = {}
        self._by_model: dict[str, list[ModelStatus]] = {}
        self._queues: dict[tuple[str, str], ModelQueue | SequenceQueues] = {}
        self._pipelines: dict[tuple[str, str], Pipeline] = {}
        self._readers: dict[str, str] = {}
        # What `servable` returned for the name and version in a request ("" for none), until the table changes it.
        # Only for functions: the compiled path knows nothing else, and the engine looks at the others more closely.
        self.known: dict[tuple[str, str], Servable] = {}
        self.only_model = ""  # the name of the model if there is just one
        self.choice = VersionChoice()
        self.connections = Connections(
            arenas, front, frames or Frames(), max_response_bytes, make_calls, self._is_listed, self._on_lost
        )

    @property
    def ready(self) -> bool:
        """The server's readiness, which the supervisor determines."""
        return self._table.ready

    def servables(self) -> Iterator[Servable]:
        yield from self._pipelines.values()  # before their steps, which would fail for the same reason
        for key, queue in self._queues.items():
            yield self._caches.around(key) or queue  # requests may wait there for the answer to an equal one

    def servable(self, name: str, version: str) -> Servable:
        """Return the servable for a request's model and version, as `model` selects it. Raises NotFound."""
        status = self.model(name, version)
        key = status.name, status.version
        servable: Servable = self._pipelines[key] if status.steps else self._queues.get(key) or self._add_queue(status)
        around = self._caches.around(key)
        if self._shadows is not None:
            around = self._shadows.around(key, around or servable) or around
        is_divided = not version and self.choice.divides(name)
        is_loaded = status.state != "UNLOADED" and status.signatures
        if version in ("", status.version) and status.is_function and is_loaded and around is None and not is_divided:
            self.known[name, version] = servable
        return around or servable

    def note_caches(self) -> None:
        """Write what response caches hold to the metrics."""
        self._caches.note_sizes()

    def reader(self, model: str) -> str:
        """Return the model whose workers get the inputs of this one: another one for some pipelines."""
        for _ in range(MAX_DEPTH):
            if model not in self._readers:
                break
            model = self._readers[model]
        return model

    def models(self) -> Sequence[ModelStatus]:
        return [entry.status for entry in self._table.entries]

    def model(self, name: str, version: str = "") -> ModelStatus:
        """Return one version, as `select_version` does, or of VersionChoice.candidates for "". Raises NotFound."""
        versions = self._by_model.get(name)
        if not versions:
            raise unknown_model(name)
        if not version:
            versions = self.choice.candidates(name, versions)
        status = select_version(versions, version)
        if status is None:
            known = ", ".join(status.version for status in versions if status.version)
            raise NotFound(f"model '{name}' has no version '{shorten(version)}'; it has {known or 'none'}")
        return status

    def find(self, name: str, version: str) -> ModelStatus | None:
        """Return this version of a model, by its number; None if it is not in the table."""
        return next((each for each in self._by_model.get(name, ()) if each.version == version), None)

    def want(self, status: ModelStatus) -> None:
        """Have a version loaded that is UNLOADED, if that was not asked for already."""
        key = status.name, status.version
        if status.state == "UNLOADED" and key not in self._wanted:
            self._wanted.add(key)
            self._want(*key)

    def apply(self, table: Table) -> None:
        """Apply the supervisor's newest table: connect to new workers, and retire those that are not in it.

        Entries that are the same objects as before are skipped, because most of many models do not change.
        """
        before = self._table
        if table.traffic != before.traffic:
            self.known.clear()
        self._table = table
        changed, gone = changes(before, table)
        for key in gone:
            del self._entries[key]
        self._entries.update(changed)
        self._forget({name for name, _ in (*changed, *gone)})
        self.choice.apply(table.traffic, self._by_model)
        if self._pipelines or any(entry.status.steps for entry in changed.values()):
            self._apply_pipelines({key: entry.status for key, entry in self._entries.items() if entry.status.steps})
        for key, entry in changed.items():
            self._wanted.discard(key)
            if not entry.status.steps:
                self._apply_entry(key, entry)
        for key, queue in list(self._queues.items()):
            if key not in self._entries or self._entries[key].status.steps:
                queue.closing = True
                for client in list(queue.clients):
                    queue.close_if_done(client)
                self._tidy(queue)
        queues: dict[tuple[str, str], Servable] = {
            key: queue for key, queue in self._queues.items() if not queue.closing
        }
        self._caches.apply(queues)
        if self._shadows is not None:
            self._shadows.apply(table.traffic, queues)
        if self._arenas is not None:
            self._arenas.keep({name for name, _ in self._queues})

    def _forget(self, names: set[str]) -> None:
        """Look these models up again, because the table says something new of them."""
        for known in [known for known in self.known if known[0] in names]:
            del self.known[known]
        found = by_model(entry.status for entry in self._table.entries if entry.status.name in names)
        # Assigned only when complete: threads that decode large requests read it.
        self._by_model = {name: each for name, each in self._by_model.items() if name not in names} | found
        self.only_model = next(iter(self._by_model)) if len(self._by_model) == 1 else ""

    def _apply_entry(self, key: tuple[str, str], entry: TableEntry) -> None:
        queue = self._queues.get(key)
        if queue is None and _may_do_without(entry.status):
            return  # most of many models are never used
        if queue is not None and isinstance(queue, SequenceQueues) != entry.status.sequence:
            self._retire(queue)  # the version was loaded again with another configuration
            queue = None
        if queue is None:
            queue = self._add_queue(entry.status)
        queue.closing = False
        queue.update_status(entry.status)
        for worker in entry.workers:
            self.connections.connect(queue.queue_of(worker), worker)
        listed = {worker.id: worker for worker in entry.workers}
        for client in list(queue.clients):
            # A retiring worker returns to the table if the model's files were restored.
            client.update(listed.get(client.address.id))
            queue.close_if_done(client)
        queue.pump()
        self._tidy(queue)
        if queue.queued:
            self.want(entry.status)  # it was unloaded while these requests were on their way

    def _add_queue(self, status: ModelStatus) -> ModelQueue | SequenceQueues:
        kind = SequenceQueues if status.sequence else ModelQueue
        key = status.name, status.version
        queue = self._queues[key] = kind(status, self._metrics.of(*key), self._tidy)
        return queue

    def _retire(self, queue: ModelQueue | SequenceQueues) -> None:
        """Have a queue answer what its workers have, and nothing else."""
        queue.closing = True
        queue.fail_queued(Unavailable(f"model '{queue.status.name}' was loaded again; send the request again"))
        for client in queue.clients:
            client.update(None)
        self._tidy(queue)

    def _apply_pipelines(self, statuses: Mapping[tuple[str, str], ModelStatus]) -> None:
        for key, status in statuses.items():
            pipeline = self._pipelines.get(key)
            if pipeline is None:
                assert self._models is not None
                metrics, limit = self._metrics.of(*key), self._max_response_bytes
                pipeline = Pipeline(status, metrics, self._models, self._tidy_pipeline, limit)
                self._pipelines[key] = pipeline
            pipeline.closing = False
            pipeline.update_status(status)
        for key, pipeline in list(self._pipelines.items()):
            if key not in statuses:
                pipeline.closing = True
                self._tidy_pipeline(pipeline)

        self._readers = {}
        for name in {name for name, _ in statuses}:
            readers = {reader_of(status) for status in self._by_model[name]}
            if len(readers) == 1 and "" not in readers:
                self._readers[name] = readers.pop()

    def _tidy_pipeline(self, pipeline: Pipeline) -> None:
        key = pipeline.status.name, pipeline.status.version
        if not pipeline.under_way and self._pipelines.get(key) is pipeline:
            del self._pipelines[key]

    def _is_listed(self, worker: WorkerAddress) -> bool:
        return any(worker.id == listed.id for entry in self._table.entries for listed in entry.workers)

    def _on_lost(self, queue: ModelQueue) -> None:
        """A worker of this queue has ended, and others may have got its requests."""
        if queue.queued:
            self.want(queue.status)  # it was unloaded while the worker had these requests
        queue.tidy()

    def _tidy(self, queue: ModelQueue | SequenceQueues) -> None:
        """Fail requests that no worker will run, and remove a closing queue that has none left."""
        status = queue.status
        if not queue.clients and not status.admits:
            queue.fail_queued(unavailable(status))
        if _may_do_without(status) and not queue.closing and not queue.clients and not queue.under_way:
            self._queues.pop((status.name, status.version), None)
            return
        if not queue.closing:
            return
        if not queue.clients:
            self._pass_on(queue)
        if not queue.under_way:
            for client in list(queue.clients):
                client.close()
            if self._queues.get((status.name, status.version)) is queue:
                del self._queues[status.name, status.version]

    def _pass_on(self, queue: ModelQueue | SequenceQueues) -> None:
        """Have the requests of a version that was unloaded answered by the version that their clients mean now."""
        status = queue.status
        error = Unavailable(
            f"model '{status.name}' version {status.version} was unloaded before it answered; send the request to "
            "a version that is loaded"
        )
        if isinstance(queue, SequenceQueues):  # another version knows nothing of their sequences
            queue.fail_queued(error)
            return
        while unsent := queue.take_queued():  # a request that leaves may have others run that waited for its answer
            for queued in unsent:
                successor = self._successor(status, queued.asked_version)
                if successor is None or not queued.move(successor):
                    queued.fail(error)
                else:
                    successor.adopt(queued)
                    self.want(successor.status)

    def _successor(self, left: ModelStatus, named: str) -> ModelQueue | None:
        """Return the queue of the version that a client means now who named the one that has left like this."""
        try:
            status = self.model(left.name, named)
        except (NotFound, Unavailable):
            return None
        if not status.admits or not status.signatures or _kind(status) != _kind(left):
            return None
        queue = self._queues.get((status.name, status.version)) or self._add_queue(status)
        return queue if isinstance(queue, ModelQueue) and not queue.closing else None


def _kind(status: ModelStatus) -> tuple[bool, ...]:
    """What a version expects of requests, and they of it, besides what is in its signatures."""
    has_steps = bool(status.steps)
    return status.decoupled, status.calls_models, status.takes_context, status.sequence, has_steps, status.stateful


def _may_do_without(status: ModelStatus) -> bool:
    """Whether a version needs no queue while it has no requests: it has no workers, and no answers that are kept."""
    return status.state == "UNLOADED" and status.response_cache is None
