"""The CPU time of a front per request, while an Observer gets the records of its requests."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.front_path import _DIALECTS, Front, GrpcFront, HttpFront, connected, request_bytes, results
from benchmarks.overhead import ROW
from gateway.domain.request_record import Observer
from gateway.engine.admission import AdmissionLimits
from gateway.engine.engine import FrontEngine
from gateway.front import fast
from gateway.front.base.limits import Limits

_TURNS = 1000


class Observation(NamedTuple):
    """finish: does what the observer has left to do, which counts as well."""

    observer: Observer | None = None
    finish: Callable[[], Any] = lambda: None


async def cpu_time(
    dialect: str, in_flight: int, observe: Callable[[FrontEngine], Observation], headers: dict[str, str] | None = None
) -> float:
    """Return the mean of a round of many turns, in microseconds. headers: of HTTP requests, besides the usual ones."""

    async def control(request: Any) -> None:
        raise NotImplementedError(request)

    module = fast.load(True)
    assert module is not None
    engine = FrontEngine(1, AdmissionLimits(), control, compiled=module)
    front: Front = GrpcFront() if dialect == "grpc" else HttpFront(in_flight)
    observer, finish = observe(engine)
    load = _DIALECTS[dialect](1, "tiny", ROW)
    data = load.body if load.grpc else request_bytes(load, headers)
    with tempfile.TemporaryDirectory() as folder:
        await front.start(engine, module.FastPath(engine, Limits(), observer), observer)
        client = await connected(engine, Path(folder))
        recorder: Any = client._transport
        spent = 0.0
        for turn in range(_TURNS):
            recorder.written.clear()
            arrivals = front.arrivals([data] * in_flight)
            started = time.process_time()
            front.receive(arrivals)
            await asyncio.sleep(0)
            spent += time.process_time() - started
            answer = results(recorder.written)
            started = time.process_time()
            client.data_received(answer)
            await asyncio.sleep(0)
            spent += time.process_time() - started
            front.check()
            if turn < 3:  # forms and texts are learned
                spent = 0.0
        started = time.process_time()
        finish()
        spent += time.process_time() - started
        await front.stop()
    return spent / ((_TURNS - 3) * in_flight) * 1e6
