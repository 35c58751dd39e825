"""Two fronts in one process, with and without the compiled fast path: whatever is done to both must leave both alike.

Connections and workers are objects that record what is written. A worker answers when the test says so; what it answers
is made once, from what the Python front asked, and both fronts get the same bytes.
"""

import asyncio
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from gateway.access.access import PolicyAccess
from gateway.access.policy import Policy
from gateway.domain.caller import Event
from gateway.domain.request_record import Observer
from gateway.domain.table import Table, TableEntry, WorkerAddress
from gateway.domain.types import ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.arenas import Arenas
from gateway.engine.client import WorkerClient
from gateway.engine.connections import Connections
from gateway.engine.engine import FrontEngine
from gateway.engine.queue import ModelQueue
from gateway.front import fast
from gateway.front.base import body
from gateway.front.base.cors import Cors
from gateway.front.base.limits import Limits
from gateway.front.dialects.v2 import rest_forms, rest_response
from gateway.front.http.server import HttpServer
from runtimes import request_frames, result_frames, status_page, wire
from runtimes.layouts import by_row, layout_of
from runtimes.result_frames import ResultFrame
from runtimes.tensors import Tensor
from tests.support.environments import skip_or_fail

# The turns of the loop after which nothing more happens by itself.
_TURNS = 4
# What differs between any two answers. Ids that a front makes are the same in no two.
_OWN = re.compile(rb"date: [^\r]*\r\n|x-request-id: [0-9a-f]{16}-[0-9a-f]+\r\n")


def compiled() -> ModuleType:
    """Return the module of the fast path; skip or fail the test if it is not compiled from the present source."""
    module = fast.load(True)
    if module is None:
        skip_or_fail("the fast path is not compiled, or is older than its source")
    assert module is not None
    return module


class Transport(asyncio.Transport):
    """Records what is written. After `close`, the connection is lost in the next turn of the loop."""

    def __init__(self, lose: Callable[[], None]) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.history: list[bytes] = []  # all that was ever written
        self.reading = True
        self._closing = False
        self._lose = lose
        # Called after each write.
        self.on_write: Callable[[], None] = _nothing

    def write(self, data: Any) -> None:
        assert not self._closing
        self.written.append(bytes(data))
        self.history.append(bytes(data))
        self.on_write()

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def get_write_buffer_size(self) -> int:
        return 0  # all that was written was sent

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._lose)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def take(self) -> bytes:
        data, self.written = b"".join(self.written), []
        return data


class Client:
    """One connection to a front. Bytes that it does not read yet wait in `unread`."""

    def __init__(self, server: HttpServer) -> None:
        loop = asyncio.get_running_loop()
        self.receiver: Any = server.config.http_protocol_class(  # type: ignore[call-arg]
            config=server.config, server_state=server.server_state, app_state={}, _loop=loop
        )
        self.connection = getattr(self.receiver, "_connection", None)
        self.transport = Transport(lambda: self.lose(None))
        self.lost = self.writing_paused = False
        self.unread = b""
        self.receiver.connection_made(self.transport)

    def send(self, data: bytes) -> None:
        self.unread += data
        self.pump()

    def pump(self) -> None:
        while self.unread and self.transport.reading and not self.lost and not self.transport.is_closing():
            into = self.receiver.get_buffer(1 << 16)
            part = self.unread[: len(into)]
            self.unread = self.unread[len(part) :]
            into[: len(part)] = part
            self.receiver.buffer_updated(len(part))

    def lose(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self.transport._closing = True
            self.transport._lose = self.transport.on_write = _nothing
            self.receiver.connection_lost(error)


class _WorkerTransport(Transport):
    """A front sends its arena's descriptor by the socket. Here nobody receives it."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else super().get_extra_info(name, default)

    def dup(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours


class Worker:
    """A worker of a front that exists only as the front's connection to it."""

    def __init__(self, client: WorkerClient) -> None:
        self.client, arena = client, client._arena
        self._arena = None if arena is None else memoryview(arena._map)
        self._transport = _WorkerTransport(lambda: client.connection_lost(None))
        client.connection_made(self._transport)
        client._worker_maps_arena = arena is not None
        self._reader = wire.FrameReader()
        # What the front sent and the worker has not answered, by id; what was cancelled.
        self.asked: dict[int, request_frames.InferFrame] = {}
        self.cancelled: list[int] = []

    def receive(self) -> list[tuple[Any, ...]]:
        """Read the frames written since the last time, and return their contents without times."""
        found: list[tuple[Any, ...]] = []  # without how the requests share frames, which may differ
        for frame in self._reader.feed(self._transport.take()):
            if frame.kind == wire.CANCEL:
                self.cancelled.append(frame.id)
                found.append(("cancel", frame.id))
            elif frame.kind == wire.INFER:
                arena = self._arena if frame.flags & wire.IN_ARENA else None
                rows = request_frames.unpack_requests(frame.body, arena).inputs.rows
                for count, (number, request) in zip(rows, request_frames.unpack_infer(frame.body, arena), strict=True):
                    self.asked[number] = request
                    inputs = [(*tensor[:3], bytes(tensor.data)) for tensor in request.inputs]
                    found.append((number, frame.flags, count, request.priority, request.layout, inputs))
                    identity = self.client.in_flight[number].identity
                    found.append((number, None if identity is None else identity.name))
        return found


class Front:
    """A front with its engine. `taken` counts the requests by whether the fast path took them."""

    def __init__(
        self,
        fast_path: ModuleType | None,
        limits: AdmissionLimits,
        body_limits: Limits,
        arena: int,
        policy: Policy | None,
        observer: Observer | None,
        cors: Cors | None,
    ) -> None:
        async def control(request: Any) -> None:
            raise NotImplementedError(request)

        self.engine = FrontEngine(1, limits, control, Arenas(arena) if arena else None, compiled=fast_path)
        path = None if fast_path is None else fast_path.FastPath(self.engine, body_limits, observer)
        self.events: list[Event] = []
        self.access: PolicyAccess | None = None
        if policy is not None:
            self.access = PolicyAccess(policy, self.events.append, self.engine.usages.of)
        self.server = HttpServer(self.engine, body_limits, _no_app, self.access, path, observer=observer, cors=cors)
        self.server.config.load()
        vars(self.engine.routes.connections)["connect"] = self._connect
        self.clients: dict[int, Client] = {}
        self.workers: dict[int, Worker] = {}
        self.taken: Counter[str] = Counter()

    def apply(self, table: Table) -> None:
        routes = self.engine.routes
        self.engine.apply(table)
        for queue in routes._queues.values():
            if isinstance(queue, ModelQueue) and "put" not in vars(queue):
                vars(queue)["put"] = self._counted(queue)

    def _connect(self, queue: ModelQueue, address: WorkerAddress) -> None:
        """Do what the engine does, without a socket."""
        connections = self.engine.routes.connections
        if address.id in connections.clients:
            return
        Connections.connect(connections, queue, address)
        client, _ = connections.clients[address.id]

        async def connect() -> None:
            self.workers[address.id] = Worker(client)

        vars(client)["connect"] = connect

    def _counted(self, queue: ModelQueue) -> Callable[[Any], None]:
        put, taken = type(queue).put, self.taken

        def counted(queued: Any) -> None:
            taken[type(queued).__name__] += 1
            put(queue, queued)

        return counted

    def state(self) -> dict[str, Any]:
        """Everything about the front that a request may change, without times."""
        engine = self.engine
        routes, watched = engine.routes, engine.requests.deadlines
        every = [client for _, (client, _) in sorted(routes.connections.clients.items())]
        return {
            "admitted": (engine.admission.requests, engine.admission.admitted_bytes),
            "watched": {timeout: sorted(each.items) for timeout, each in watched._buckets.items() if each.items},
            "own": sorted(watched._own.items),
            "queued": {
                key: (sorted(q._queued.items), q._sent, q.closing)
                for key, q in routes._queues.items()
                if isinstance(q, ModelQueue)
            },
            "in flight": [(client.address.id, sorted(client.in_flight), client.rows_in_flight) for client in every],
            "crashes": [sent.crashes for client in every for sent in client.in_flight.values()],
            "unsent": [[queued.id for queued in client._requests] for client in every],
            "arena": [sorted(client._arena_inputs) for client in every],
            "metrics": _without_times(engine.snapshot()),
            "used": engine.usages.snapshot(),
            "events": self.events,
            "connections": {
                number: (
                    client.transport.reading, client.transport.is_closing(), client.lost, len(client.unread),
                )
                for number, client in self.clients.items()
            },
        }  # fmt: skip

    def written(self) -> dict[int, bytes]:
        return {number: _OWN.sub(b"", client.transport.take()) for number, client in self.clients.items()}


class Pair:
    """Both fronts. Each method does the same to both and compares what they have done."""

    def __init__(self, fast: Front, plain: Front, folder: Path) -> None:
        self.fast, self.plain = fast, plain
        self._folder = folder
        self._connections = self._workers = 0
        # All answers so far, by connection.
        self.answers: dict[int, bytes] = {}

    @property
    def fronts(self) -> tuple[Front, Front]:
        return self.plain, self.fast

    async def worker(self, window: int) -> WorkerAddress:
        """Return the address of a new worker."""
        self._workers += 1
        status = self._folder / f"status{self._workers}"
        status.write_bytes(bytes(status_page.SIZE))
        return WorkerAddress(self._workers, "", str(status), window)

    async def apply(self, *entries: tuple[ModelStatus, Sequence[WorkerAddress]]) -> None:
        await self.compare()  # what goes on by itself belongs to the table before
        table = Table(tuple(TableEntry(status, tuple(workers)) for status, workers in entries), ready=True)
        for front in self.fronts:
            front.apply(table)
        await self.compare()

    async def publish(self, policy: Policy) -> None:
        """Replace the policy of access."""
        for front in self.fronts:
            assert front.access is not None
            front.access.apply(policy)
        await self.compare()

    def connect(self) -> int:
        """Return the number of a new connection."""
        self._connections += 1
        for front in self.fronts:
            front.clients[self._connections] = Client(front.server)
        self.answers[self._connections] = b""
        return self._connections

    def send(self, number: int, data: bytes) -> None:
        for front in self.fronts:
            front.clients[number].send(data)

    def each(self, number: int) -> list[Client]:
        return [front.clients[number] for front in self.fronts]

    def asked(self) -> dict[int, list[int]]:
        """The ids of the requests that each worker has and has not answered."""
        return {number: list(worker.asked) for number, worker in self.plain.workers.items() if worker.asked}

    def request(self, worker: int, number: int) -> request_frames.InferFrame:
        return self.plain.workers[worker].asked[number]

    def answer(self, worker: int, numbers: Sequence[int], frame: bytes, final: bool = True) -> None:
        """Deliver a frame with the answers to these requests."""
        for front in self.fronts:
            if final:
                for number in numbers:
                    del front.workers[worker].asked[number]
            front.workers[worker].client.data_received(frame)

    def kill(self, worker: int, running: frozenset[int]) -> None:
        """End a worker while it runs these requests."""
        for front in self.fronts:
            client = front.workers.pop(worker).client
            client._status.running = lambda: running  # type: ignore[method-assign]
            client._status.busy_since = lambda: 0.0  # type: ignore[method-assign]
            client._status.is_over_limit = lambda: False  # type: ignore[method-assign]
            client.connection_lost(None)

    def expire(self, within_s: float) -> None:
        """End the requests whose deadline passes within this time, as if it had passed."""
        now = asyncio.get_running_loop().time() + within_s
        later = SimpleNamespace(time=lambda: now, call_at=lambda at, *call: SimpleNamespace(cancel=_nothing))
        for front in self.fronts:
            watched = front.engine.requests.deadlines
            with patch("gateway.engine.deadlines.asyncio", SimpleNamespace(get_running_loop=lambda: later)):
                for bucket in list(watched._buckets.values()):
                    watched._expire_bucket(bucket)
                watched._expire_own()
            # The timers that were set meanwhile do not exist.
            for bucket in watched._buckets.values():
                bucket.armed = False
                if bucket.items:
                    watched._arm(bucket, next(iter(bucket.items.values())))
            watched._arm_own()

    async def compare(self) -> None:
        """Let everything happen that happens by itself, and assert that it was the same."""
        for _ in range(_TURNS):
            for front in self.fronts:
                for client in list(front.clients.values()):
                    client.pump()
            await asyncio.get_running_loop().run_in_executor(None, _nothing)
        plain, fast = self.plain.written(), self.fast.written()
        _assert_equal(fast, plain)
        for number, data in plain.items():
            self.answers[number] += data
        for number, worker in self.plain.workers.items():
            _assert_equal(dict(enumerate(self.fast.workers[number].receive())), dict(enumerate(worker.receive())))
        state = self.plain.state()
        _assert_equal(self.fast.state(), state)
        for number, (_, _, lost, _) in state["connections"].items():
            if lost:
                for front in self.fronts:
                    del front.clients[number]

    async def finish(self) -> None:
        """End all connections and requests, and assert that nothing is left of them."""
        for front in self.fronts:
            for client in list(front.clients.values()):
                client.lose(None)
        await self.compare()
        for worker, numbers in self.asked().items():
            for number in numbers:
                self.answer(worker, [number], error_frame(number, "internal", "cancelled"))
        await self.compare()
        state = self.plain.state()
        assert state["admitted"] == (0, 0)
        assert not state["watched"]
        assert not state["own"]
        assert not any(numbers for _, numbers, _ in state["in flight"])
        assert not any(state["arena"])


def result_frame(results: Sequence[tuple[int, int, Sequence[Tensor]]], final: bool = True, first: bool = True) -> bytes:
    """Return a RESULT frame with these (id, rows, outputs). With rows, the layout leaves them open."""
    layout = layout_of("", (), results[0][2])
    counted = all(rows for _, rows, _ in results)
    if counted:
        layout = by_row(layout, 0)
    numbers = [number for number, _, _ in results]
    each = [[bytes(tensor.data) for tensor in outputs] for _, _, outputs in results]
    sizes = [[len(buffers[tensor]) for buffers in each] for tensor, (_, _, _, size) in enumerate(layout[2]) if size < 0]
    common = ResultFrame(0, 1000, 2000, 3000, 8, [], layout, final)
    rows = [rows or 1 for _, rows, _ in results]
    outputs = [b"".join([buffers[tensor] for buffers in each]) for tensor in range(len(layout[2]))]
    flags = wire.FIRST_OF_BATCH if first else 0
    return b"".join(
        result_frames.pack_grouped_results(numbers, [1000] * len(rows), rows, common, outputs, sizes, flags)
    )


def error_frame(number: int, kind: str, message: str) -> bytes:
    return wire.pack_json(wire.ERROR, {"kind": kind, "message": message}, number)


def _assert_equal(fast: dict[Any, Any], plain: dict[Any, Any]) -> None:
    """Assert that both are equal, and show nothing but the difference otherwise."""
    for key in {**plain, **fast}:
        one, other = fast.get(key), plain.get(key)
        if one != other and isinstance(one, dict) and isinstance(other, dict):
            _assert_equal(one, other)
        assert one == other, f"the fast path differs from the Python code: {key}: {one!r}, not {other!r}"


def _without_times(snapshot: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for each in snapshot:
        kept = {name: value for name, value in each.items() if name not in ("failed_s", "succeeded_s", "last_ms")}
        for name, value in each.items():
            if isinstance(value, dict) and "counts" in value:
                kept[name] = sum(value["counts"]) if name in ("request", "queue") else value
        found.append(kept)
    return found


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    """Stands for the admin app."""
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"cold"})


def _nothing() -> None:
    pass


@asynccontextmanager
async def pair(
    module: ModuleType,
    folder: Path,
    limits: AdmissionLimits | None = None,
    body_limits: Limits | None = None,
    arena: int = 0,
    policy: Policy | None = None,
    observer: Observer | None = None,
    cors: Cors | None = None,
) -> AsyncIterator[Pair]:
    """Both fronts, with the same observer. Forms and texts that other tests have learned are forgotten."""
    for cache in (rest_forms._forms, rest_forms._seen, rest_response._texts):
        cache.entries.clear()
    # One thread, so that what was begun before is done before: see Pair.compare.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    limits, body_limits = limits or AdmissionLimits(), body_limits or Limits()
    fast, plain = (Front(each, limits, body_limits, arena, policy, observer, cors) for each in (module, None))
    found = Pair(fast, plain, folder)
    # A timer of one front must not run between what is done to both.
    with patch.object(body, "LINGER_S", 3600):
        yield found
        await found.finish()
