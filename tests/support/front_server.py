"""A real uvicorn and real gRPC servers, in a thread with its own event loop, over a fake engine."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from threading import Event, Thread
from typing import Any, get_args

import grpc
import httpx
import uvloop

from gateway.domain.identity import Identity
from gateway.domain.image_processing import Postprocess, Preprocess
from gateway.domain.request_record import Observer
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.engine.fake import FakeEngine
from gateway.engine.protocol import AnswerCallback
from gateway.front.admin.app import build_admin
from gateway.front.base.access import Access
from gateway.front.base.cors import Cors
from gateway.front.base.limits import Limits
from gateway.front.grpc.server import build_server
from gateway.front.http.server import HttpServer
from gateway.process.address import GrpcServer
from gateway.process.tls import ServerTls
from runtimes.contract import DATATYPES, Signature, TensorSpec
from runtimes.tensors import Tensor

ALLOWED_HOST = "allowed.example"
LIMITS = Limits(json_bytes=1 << 20, binary_bytes=2 << 20, response_bytes=3 << 19)
WAIT_S = 60


class WatchedEngine(FakeEngine):
    """Tells the test's thread when a request arrives, and when one is given up; fails with `failure` if set."""

    def __init__(self, models: list[ModelStatus], compute: Callable[[InferRequest], list[Tensor]]) -> None:
        super().__init__(models, compute)
        self.arrived, self.left = Event(), Event()
        self.failure: Exception | None = None

    async def _infer(
        self, request: InferRequest, identity: Identity | None, on_answer: AnswerCallback | None = None
    ) -> InferResponse:
        self.arrived.set()
        if self.failure is not None:
            raise self.failure
        try:
            return await super()._infer(request, identity, on_answer)
        except asyncio.CancelledError:
            self.left.set()
            raise


@dataclass
class Serving:
    loop: asyncio.AbstractEventLoop
    engine: WatchedEngine
    port: int
    http: httpx.Client
    channels: dict[str, grpc.Channel]
    grpc_server: GrpcServer = "native"
    client_context: ssl.SSLContext | None = None  # over TLS

    @property
    def channel(self) -> grpc.Channel:
        return self.channels[self.grpc_server]

    def by(self, grpc_server: GrpcServer) -> "Serving":
        """The same, with the other library's gRPC server."""
        return replace(self, grpc_server=grpc_server)

    def call(self, method: str, message: bytes, **options: Any) -> bytes:
        """One gRPC call, bytes in and out. Raises grpc.RpcError."""
        path = f"/inference.GRPCInferenceService/{method}"
        answer: bytes = self.channel.unary_unary(path)(message, timeout=WAIT_S, **options)
        return answer

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        if self.client_context is None:
            return connection
        return self.client_context.wrap_socket(connection, server_hostname="127.0.0.1")

    def open_gate(self, is_open: bool = True) -> None:
        gate = self.engine.gate
        self.run(gate.set if is_open else gate.clear)

    def run(self, function: Callable[[], Any]) -> None:
        async def call() -> None:
            function()

        asyncio.run_coroutine_threadsafe(call(), self.loop).result(WAIT_S)


def answer(request: InferRequest) -> list[Tensor]:
    """Each input comes back as an output: x as y, others with _out behind their names."""
    outputs = [
        tensor._replace(name="y" if tensor.name == "x" else tensor.name + "_out", data=bytes(tensor.data))
        for tensor in request.inputs
    ]
    return [tensor for tensor in outputs if not request.outputs or tensor.name in request.outputs]


def model(name: str, *inputs: TensorSpec, **more: Any) -> ModelStatus:
    outputs = [spec._replace(name="y" if spec.name == "x" else spec.name + "_out") for spec in inputs]
    signature = Signature(inputs, tuple(outputs))
    return ModelStatus(name, "1", "READY", platform="fake", signatures={"default": signature}, **more)


GRAY = Preprocess(size=(2, 2), color="GRAY", mean=(0.0,), std=(1.0,), layout="flat")


def image_models() -> list[ModelStatus]:
    """The answers are the pixels: `classes` takes those of four for scores."""
    four = TensorSpec("x", "FP32", (-1, 4))
    labels = {"y": ("zero", "one", "two")}
    return [
        model("photos", TensorSpec("x", "FP32", (-1, 3, 4, 6)), max_batch_size=8, preprocess=Preprocess((4, 6))),
        model("grey", four, max_batch_size=8, preprocess=GRAY),
        model("classes", four, preprocess=GRAY, postprocess=Postprocess(top_k=3), class_labels=labels),
        model("soft", four, preprocess=GRAY._replace(scale=0.01), postprocess=Postprocess("y", True, 2)),
        model("unfit", TensorSpec("x"), preprocess=GRAY, postprocess=Postprocess("nosuch")),
        model("large", TensorSpec("x"), preprocess=Preprocess((400, 400))),
    ]


def models() -> list[ModelStatus]:
    learned = Signature((TensorSpec("x", "FP64", (-1, 2)),), (TensorSpec("y", "FP64", (-1, 2)),))
    return [
        model("doubler", TensorSpec("x", "FP32", (-1, 3)), max_batch_size=8),
        model("small", TensorSpec("x", "INT8", (-1, 3))),
        model("two", TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "INT32", (-1, 1)), max_batch_size=8),
        model("untyped", TensorSpec("x")),
        model(
            "animals", TensorSpec("x", "FP32", (-1, 4)), max_batch_size=8, class_labels={"y": ("cat", "dog", "", "")}
        ),
        model("taught", TensorSpec("x"), learned=learned),
        ModelStatus("broken", "2", "UNAVAILABLE", "its artifact is cut off"),
        *image_models(),
        *(model(f"echo_{datatype}", TensorSpec("x", datatype)) for datatype in DATATYPES),
    ]


async def serve(
    started: "Future[Serving]",
    stop: asyncio.Event,
    access: Access | None = None,
    tls: ServerTls | None = None,
    client_context: ssl.SSLContext | None = None,
    limits: Limits = LIMITS,
    observer: Observer | None = None,
    cors: Cors | None = None,
) -> None:
    """Runs until `stop` is set, in the loop of the caller; `started` gets what tests talk to.

    With `tls`, REST speaks TLS, and `client_context` is a client's.
    """
    engine = WatchedEngine(models(), answer)
    admin = build_admin(engine, LIMITS, [ALLOWED_HOST], access, cors=cors)
    rest = HttpServer(engine, limits, admin, access, tls=tls, observer=observer, cors=cors)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(rest.serve([listener]))
    port = listener.getsockname()[1]
    async with AsyncExitStack() as stack:
        url, verify = ("http", True) if client_context is None else ("https", client_context)
        http = stack.enter_context(httpx.Client(base_url=f"{url}://127.0.0.1:{port}", timeout=WAIT_S, verify=verify))
        channels = {
            kind: await stack.enter_async_context(_grpc(engine, kind, access, observer))
            for kind in get_args(GrpcServer)
        }
        serving_now = Serving(asyncio.get_running_loop(), engine, port, http, channels, client_context=client_context)
        started.set_result(serving_now)
        await stop.wait()
        rest.stop()
    await serving


@asynccontextmanager
async def _grpc(
    engine: WatchedEngine, kind: GrpcServer, access: Access | None, observer: Observer | None
) -> AsyncIterator[grpc.Channel]:
    server = build_server(engine, LIMITS, kind, health_period_s=0.01, access=access, observer=observer)
    port = server.add_port("127.0.0.1:0")
    await server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


@contextmanager
def in_thread(access: Access | None = None, **options: Any) -> Iterator[Serving]:
    started: Future[Serving] = Future()
    stop = asyncio.Event()

    def run(main: Coroutine[Any, Any, None]) -> None:
        try:
            uvloop.run(main)
        except BaseException as error:
            started.set_exception(error)
            raise

    thread = Thread(target=run, args=(serve(started, stop, access, **options),))
    thread.start()
    serving = started.result(WAIT_S)
    try:
        yield serving
    finally:
        serving.run(stop.set)
        thread.join(WAIT_S)
