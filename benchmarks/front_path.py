"""The CPU cost of a request in a front's Python code: codec, engine and frames, without sockets or other processes.

    python -m benchmarks.front_path [--dialect v2|plain|binary|grpc] [--in-flight 32] [--varied] [--profile]

The connection and the engine are real, but their sockets are replaced by objects that record what is written. So is
gRPC's transport, which is in Rust and has threads of its own.
Requests arrive `--in-flight` at a time, as they do when a worker answers whole batches. The figure is the minimum of
many short rounds, because noise on a shared machine only adds time.
"""

import argparse
import asyncio
import cProfile
import pstats
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import uvloop
from pygrpc_native import EVENT_CALL

from benchmarks import requests
from benchmarks.h2load import Load
from benchmarks.overhead import ROW
from gateway.domain.request_record import Observer
from gateway.domain.table import Table, TableEntry, WorkerAddress
from gateway.domain.types import ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.client import WorkerClient
from gateway.engine.engine import FrontEngine
from gateway.front import fast
from gateway.front.base.limits import Limits
from gateway.front.grpc.server import build_server
from gateway.front.http.server import HttpServer
from gateway.generated import open_inference_pb2 as pb
from runtimes import request_frames, result_frames, status_page, wire
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor

if TYPE_CHECKING:
    from gateway.front.fast_path import FastPath

_DIALECTS = {
    "v2": requests.v2_json,
    "plain": requests.predict_json,
    "binary": requests.v2_binary,
    "grpc": requests.v2_grpc,
}
_ROUNDS, _TURNS = 40, 50
_VARIED = 1009  # a prime, so that each connection sends every request over time
_SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 16)),), (TensorSpec("y", "FP32", (-1, 4)),))
_servers: list[asyncio.Server] = []  # uvloop closes a server that nothing refers to
_ANSWER = Tensor("y", "FP32", (1, 4), np.arange(4, dtype=np.float32).tobytes())


class Recorder(asyncio.Transport):
    """A transport that records what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Any] = []

    def write(self, data: Any) -> None:
        self.written.append(data)

    def writelines(self, parts: Any) -> None:
        self.written += parts

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Front(Protocol):
    async def start(
        self, engine: FrontEngine, fast_path: "FastPath | None", observer: Observer | None = None
    ) -> None: ...

    async def stop(self) -> None: ...

    def arrivals(self, requests: list[bytes]) -> Any:
        """Return these requests, one per connection or call, in the form in which the transport hands them over."""

    def receive(self, arrivals: Any) -> None:
        """Handle them as when they arrive."""

    def check(self) -> None:
        """Assert that all have been answered since the last time."""


class HttpFront:
    def __init__(self, in_flight: int) -> None:
        self._in_flight = in_flight

    async def start(self, engine: FrontEngine, fast_path: "FastPath | None", observer: Observer | None = None) -> None:
        server = HttpServer(engine, Limits(), _no_app, fast_path=fast_path, observer=observer)
        server.config.load()
        loop = asyncio.get_running_loop()
        self._connections = []
        for _ in range(self._in_flight):
            receiver: Any = server.config.http_protocol_class(  # type: ignore[call-arg]
                config=server.config, server_state=server.server_state, app_state={}, _loop=loop
            )
            transport = Recorder()
            receiver.connection_made(transport)
            self._connections.append((receiver, transport))

    async def stop(self) -> None:
        pass

    def arrivals(self, requests: list[bytes]) -> Any:
        return requests

    def receive(self, arrivals: Any) -> None:
        for (receiver, _), data in zip(self._connections, arrivals, strict=True):
            into = receiver.get_buffer(1 << 16)
            into[: len(data)] = data
            receiver.buffer_updated(len(data))

    def check(self) -> None:
        for _, transport in self._connections:
            assert transport.written[0].startswith(b"HTTP/1.1 200"), transport.written
            transport.written.clear()


class GrpcFront:
    """The native server. Its transport exists, but serves nobody: calls come from here, and answers are recorded."""

    def __init__(self) -> None:
        self._answered: list[int] = []
        self._number = 0

    async def start(self, engine: FrontEngine, fast_path: "FastPath | None", observer: Observer | None = None) -> None:
        server: Any = build_server(engine, Limits(), fast_path=fast_path, observer=observer)
        self._server = server
        self._server.add_port("127.0.0.1:0")
        await self._server.start()
        self._method = [path for path, _ in self._server._table].index(requests.METHOD)
        self._transport, self._server._front = self._server._front, self

    async def stop(self) -> None:
        self._server._front = self._transport
        await self._server.stop(None)

    def respond(self, call: int, answer: bytes, *metadata: Any) -> None:
        self._answered.append(call)

    def arrivals(self, requests: list[bytes]) -> Any:
        """Return events as pygrpc-native's recv_batch_details does."""
        first = self._number + 1
        self._number += len(requests)
        return [
            (EVENT_CALL, call, self._method, message, None, ((), "ipv4:127.0.0.1:1", None))
            for call, message in enumerate(requests, first)
        ]

    def receive(self, arrivals: Any) -> None:
        self._server._on_events(arrivals)

    def check(self) -> None:
        """Each call must have been answered, in any order."""
        answered, self._answered = sorted(self._answered), []
        assert answered == list(range(self._number - len(answered) + 1, self._number + 1)), answered
        assert answered


def request_bytes(load: Load, more: dict[str, str] | None = None) -> bytes:
    """Return the request as h2load would send it, with the headers `more` added."""
    path = load.url.removeprefix("http://").partition("/")[2]
    fields = {"host": "127.0.0.1", "user-agent": "benchmark", "content-length": str(len(load.body)), **load.headers}
    fields.update(more or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST /{path} HTTP/1.1\r\n{head}\r\n".encode() + load.body


async def connected(engine: FrontEngine, folder: Path) -> WorkerClient:
    """Return the engine's client of a worker that does not exist. The frames the client writes are recorded."""
    status = folder / "status"
    status.write_bytes(bytes(status_page.SIZE))
    _servers.append(await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, str(folder / "socket")))
    model = ModelStatus("tiny", "1", "READY", admits=True, signatures={"": _SIGNATURE}, max_batch_size=32)
    worker = WorkerAddress(1, str(folder / "socket"), str(status), 1 << 20)
    engine.apply(Table((TableEntry(model, (worker,)),), ready=True))
    queue = engine.routes._queues["tiny", "1"]
    await asyncio.gather(*engine.routes.connections._tasks)
    queue.clients[0]._transport = Recorder()
    return queue.clients[0]


def results(written: list[Any]) -> bytes:
    """Return the bytes that a worker would answer to these frames."""
    answers = []
    for frame in wire.FrameReader().feed(b"".join(written)):
        if frame.kind == wire.INFER:
            every = [
                (number, result_frames.ResultFrame(1000, 1000, 1000, 1000, 32, [_ANSWER]))
                for number, _ in request_frames.unpack_infer(frame.body)
            ]
            answers += result_frames.pack_result(every, wire.FIRST_OF_BATCH)
    return b"".join(answers)


def varied_requests(dialect: str) -> list[bytes]:
    """Return requests that all differ in values, lengths, ids and traces."""
    random, found = np.random.default_rng(0), []
    for number in range(_VARIED):
        row = random.normal(size=(1, 16)).astype(np.float32).round(random.integers(1, 9))
        load = _DIALECTS[dialect](1, "tiny", row)
        if load.grpc:
            message = pb.ModelInferRequest.FromString(load.body)
            message.id = str(random.integers(1 << 40))
            found.append(message.SerializeToString())
            continue
        if dialect == "v2":
            load = replace(load, body=b'{"id": "%d",' % random.integers(1 << 40) + load.body[1:])
        trace = random.bytes(24).hex()
        headers = {"traceparent": f"00-{trace[:32]}-{trace[32:]}-01", "x-request-id": f"{number}-{trace[:12]}"}
        found.append(request_bytes(load, headers))
    return found


async def measure(
    dialect: str,
    requests: list[bytes],
    in_flight: int,
    profile: cProfile.Profile | None,
    fast_path: ModuleType | None,
) -> tuple[float, float]:
    """Return the minimum CPU time per request, in microseconds: until it is sent to the worker, and for its answer."""

    async def control(request: Any) -> None:
        raise NotImplementedError(request)

    engine = FrontEngine(1, AdmissionLimits(), control, compiled=fast_path)
    front: Front = GrpcFront() if dialect == "grpc" else HttpFront(in_flight)
    with tempfile.TemporaryDirectory() as folder:
        await front.start(engine, None if fast_path is None else fast_path.FastPath(engine, Limits()))
        client = await connected(engine, Path(folder))
        recorder: Any = client._transport
        turn = 0
        best = [float("inf"), float("inf")]
        for _ in range(_ROUNDS):
            spent = [0.0, 0.0]
            for _ in range(_TURNS):
                recorder.written.clear()
                arrivals = front.arrivals([requests[(turn + each) % len(requests)] for each in range(in_flight)])
                turn += in_flight
                if profile:
                    profile.enable()
                started = time.process_time()
                front.receive(arrivals)
                await asyncio.sleep(0)
                spent[0] += time.process_time() - started
                if profile:
                    profile.disable()
                answer = results(recorder.written)
                if profile:
                    profile.enable()
                started = time.process_time()
                client.data_received(answer)
                await asyncio.sleep(0)
                spent[1] += time.process_time() - started
                if profile:
                    profile.disable()
                front.check()
            best = [min(a, b / _TURNS / in_flight * 1e6) for a, b in zip(best, spent, strict=True)]
        await front.stop()
    return best[0], best[1]


async def _no_app(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dialect", choices=_DIALECTS, default="v2")
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--varied", action="store_true", help="requests that differ in values, lengths, ids and traces")
    parser.add_argument("--pure", action="store_true", help="without the compiled fast path")
    parser.add_argument("--profile", action="store_true", help="and which functions take it")
    options = parser.parse_args()
    if options.varied:
        every = varied_requests(options.dialect)
    else:
        load = _DIALECTS[options.dialect](1, "tiny", ROW)
        every = [load.body if load.grpc else request_bytes(load)]
    fast_path = fast.load(not options.pure)
    down, up = uvloop.run(measure(options.dialect, every, options.in_flight, None, fast_path))
    print(f"{options.dialect}: {down:.1f} µs until the worker has it, {up:.1f} µs from its answer on")
    if options.profile:
        profile = cProfile.Profile(time.process_time)
        uvloop.run(measure(options.dialect, every, options.in_flight, profile, fast_path))
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    main()
