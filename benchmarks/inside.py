"""Requests created inside a front: its engine with real workers, without clients, protocols and sockets."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from gateway.config import home
from gateway.domain.control import ControlRequest
from gateway.domain.table import Table
from gateway.domain.types import InferRequest
from gateway.engine.admission import AdmissionLimits
from gateway.engine.arenas import open_arenas
from gateway.engine.engine import FrontEngine
from gateway.environments.builder import Builder
from gateway.environments.runtime import discover
from gateway.lifecycle.manager import Manager
from gateway.lifecycle.options import ManagerOptions
from gateway.lifecycle.starter import StarterOptions
from runtimes.tensors import Tensor

_LOAD_S = 600.0
_ARENA_BYTES = 1 << 30


def answered(
    repository: Path,
    model: str,
    tensor: Tensor,
    in_flight: int,
    seconds: float,
    accelerator: str = "cpu",
    python: Path | None = None,
) -> float:
    """Return the requests per second with `in_flight` at a time, after a warm-up of half the time."""
    return uvloop.run(_answered(repository, model, tensor, in_flight, seconds, accelerator, python))


async def _answered(
    repository: Path,
    model: str,
    tensor: Tensor,
    in_flight: int,
    seconds: float,
    accelerator: str,
    python: Path | None,
) -> float:
    async def control(request: ControlRequest[Any]) -> None:
        raise NotImplementedError(request)

    settled = asyncio.Event()
    engine = FrontEngine(1, AdmissionLimits(1 << 20, _ARENA_BYTES, _LOAD_S), control, open_arenas(_ARENA_BYTES))

    def publish(table: Table) -> None:
        engine.apply(table)
        if table.ready:
            settled.set()

    external = {"torchscript": python} if python else {}
    with tempfile.TemporaryDirectory(prefix="modelport-") as run_dir:
        options = ManagerOptions(repository, StarterOptions(run_dir=Path(run_dir), accelerator=accelerator))
        builder = Builder(home(), accelerator, external, frozenset(), lambda: None)
        manager = Manager(options, discover(), builder, publish)
        running = asyncio.create_task(manager.run())
        try:
            async with asyncio.timeout(_LOAD_S):
                await settled.wait()
            return await _load(engine, InferRequest(model, [_in_shared_memory(engine, tensor)]), in_flight, seconds)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await manager.close()
            await builder.close()


def _in_shared_memory(engine: FrontEngine, tensor: Tensor) -> Tensor:
    buffer = engine.buffer(len(tensor.data))
    buffer[:] = tensor.data
    return tensor._replace(data=buffer)


async def _load(engine: FrontEngine, request: InferRequest, in_flight: int, seconds: float) -> float:
    begins = time.perf_counter() + seconds / 2
    ends, count = begins + seconds, 0

    async def ask() -> None:
        nonlocal count
        while (now := time.perf_counter()) < ends:
            await engine.infer(request)
            count += now >= begins

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(ask())
    return count / (time.perf_counter() - begins)
