"""Counts how often the bytes of a large input are copied between the socket and the framework.

A real HTTP server, engine and worker loop run in one process. The worker maps the arena again, as it would in a
separate process.
"""

import asyncio
import json
import mmap
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvloop

from gateway.domain.table import Table, TableEntry, WorkerAddress
from gateway.domain.types import ModelStatus
from gateway.engine.admission import AdmissionLimits
from gateway.engine.arenas import Arenas
from gateway.engine.engine import FrontEngine
from gateway.front import fast
from gateway.front.base.limits import Limits
from gateway.front.http.hot_request import HotRequest
from gateway.front.http.server import HttpServer
from runtimes import status_page
from runtimes.contract import Model, Signature, TensorSpec
from runtimes.status_page import StatusPage
from runtimes.worker.batcher import Batching
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.facts import Facts
from runtimes.worker.loop import Loop

SHAPE = (3, 224, 224)


class Looks(Model):
    """Returns the sum of each image, and records whether its input is in the arena and aligned."""

    def __init__(self) -> None:
        specs = (TensorSpec("x", "FP32", (-1, *SHAPE)),), (TensorSpec("y", "FP32", (-1,)),)
        self.signatures = {"default": Signature(*specs)}
        self.in_arena: list[bool] = []
        self.rows: list[int] = []

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        array = inputs["x"]
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        self.in_arena.append(isinstance(getattr(base, "obj", None), mmap.mmap))
        self.rows.append(len(array))
        return {"y": array.sum(axis=(1, 2, 3))}


def work(model: Model, listener: socket.socket, control: socket.socket, page: str) -> threading.Thread:
    executor = Executor(model, Batching(8, frozenset({"default"})), 1 << 20)
    facts = Facts(executor.model.signatures, executor.model.signatures, False, executor.batching, "", "")
    loop = Loop(executor, listener, Connection(control), StatusPage(page), facts)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    return thread


def request(image: np.ndarray) -> tuple[bytes, dict[str, str]]:
    tensor = {
        "name": "x", "shape": [1, *SHAPE], "datatype": "FP32", "parameters": {"binary_data_size": image.nbytes},
    }  # fmt: skip
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + image.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


@pytest.fixture
def through_the_parser(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of chunks that came through the HTTP parser, which copies them, and were then copied into the buffer."""
    lengths: list[int] = []
    receive = HotRequest.on_body

    def on_body(self: HotRequest, chunk: bytes) -> None:
        lengths.append(len(chunk))
        receive(self, chunk)

    monkeypatch.setattr(HotRequest, "on_body", on_body)
    return lengths


@pytest.mark.parametrize("is_compiled", [True, False])
def test_a_large_input_is_read_from_the_memory_that_received_it(
    tmp_path: Path, through_the_parser: list[int], is_compiled: bool
) -> None:
    """Each byte is copied twice at most: hardly any on the way to the worker, and once more in a batch of several."""
    compiled = fast.load(is_compiled)
    if is_compiled and compiled is None:
        pytest.skip("the compiled path is not built")
    asked = 5
    model, arenas = Looks(), Arenas(1 << 26)
    arena = arenas.of("m")
    assert arena is not None
    images = [np.random.default_rng(seed).normal(size=(1, *SHAPE)).astype(np.float32) for seed in range(asked)]

    async def ask(port: int) -> list[float]:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            found = []
            for image in images:
                content, headers = request(image)
                answer = await http.post("/v2/models/m/infer", content=content, headers=headers)
                found.append(answer.json()["outputs"][0]["data"][0])
            return found

    async def main() -> list[float]:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "worker"))
        listener.listen()
        status_page.create(str(tmp_path / "status"))
        ours, theirs = socket.socketpair()
        thread = work(model, listener, theirs, str(tmp_path / "status"))
        engine = FrontEngine(1, AdmissionLimits(), lambda *_: asyncio.sleep(0), arenas, compiled=compiled)
        status = ModelStatus("m", "1", "READY", admits=True, signatures=model.signatures, max_batch_size=8)
        worker = WorkerAddress(1, str(tmp_path / "worker"), str(tmp_path / "status"), 16)
        engine.apply(Table((TableEntry(status, (worker,)),), True))
        path = None if compiled is None else compiled.FastPath(engine, Limits())
        server = HttpServer(engine, Limits(), _nothing, fast_path=path)
        port = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve([port]))
        try:
            # The worker maps the arena while the first request is being sent.
            async with asyncio.timeout(10):
                while not _maps(engine):  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0)
            return await ask(port.getsockname()[1])
        finally:
            server.stop()
            await serving
            engine.apply(Table())
            await asyncio.sleep(0)
            ours.close()
            await asyncio.to_thread(thread.join, 10)
            for each in (listener, theirs):
                each.close()

    found = uvloop.run(main()) if is_compiled else asyncio.run(main())
    np.testing.assert_allclose(found, [image.sum(dtype=np.float64) for image in images], rtol=1e-3)
    assert model.rows == [1] * asked
    assert model.in_arena == [True] * asked
    total = sum(image.nbytes for image in images)
    assert 2 * sum(through_the_parser) < 0.25 * total
    assert arena.free_bytes == arena.size


def _maps(engine: FrontEngine) -> bool:
    clients = engine.routes._queues["m", "1"].clients
    return bool(clients) and clients[0]._worker_maps_arena


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError(scope)
