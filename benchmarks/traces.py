"""The CPU time of a front per request, without traces, with traces of which none is sampled, and of one in a hundred.

    python -m benchmarks.traces [--dialect v2|plain|binary|grpc] [--in-flight 32] [--ratio 0.01] [--rounds 15]

Like benchmarks.front_path, but the means of whole rounds, because spans are made and sent by a thread, now and then,
whose time belongs to the request's. They go to a receiver in another process. The kinds take turns.
"""

import argparse
import asyncio
import gc
import multiprocessing
import statistics
import tempfile
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.front_path import _DIALECTS, Front, GrpcFront, HttpFront, connected, request_bytes, results
from benchmarks.overhead import ROW
from gateway.domain.trace_settings import TraceSampler, TraceSettings, TraceTable
from gateway.engine.admission import AdmissionLimits
from gateway.engine.engine import FrontEngine
from gateway.front import fast
from gateway.front.base.limits import Limits
from gateway.front.tracing.export import SpanExport, otlp_export
from gateway.front.tracing.tracer import Tracer

_TURNS = 1000


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def _receive(ports: Connection) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Receiver)
    ports.send(server.server_port)
    server.serve_forever()


@cache
def _export(url: str) -> SpanExport:
    """Return what all rounds share, because a front connects to its collector once."""
    export = otlp_export(url, "benchmark", "http")
    export._send(b"")
    return export


async def _round(dialect: str, in_flight: int, ratio: float | None, url: str) -> float:
    """Return the CPU time per request, in microseconds. `ratio`: None without traces."""

    async def control(request: Any) -> None:
        raise NotImplementedError(request)

    module = fast.load(True)
    assert module is not None
    engine = FrontEngine(1, AdmissionLimits(), control, frames=module.Frames())
    front: Front = GrpcFront() if dialect == "grpc" else HttpFront(in_flight)
    tracer: Tracer | None = None
    export: SpanExport | None = None
    if ratio is not None:
        sampler = TraceSampler()
        sampler.apply(TraceTable(TraceSettings(True, 1 / ratio if ratio else 0)).to_front(1, 1))
        export = _export(url)
        tracer = Tracer(sampler, export.put, engine.metrics)
    load = _DIALECTS[dialect](1, "tiny", ROW)
    data = load.body if load.grpc else request_bytes(load)
    with tempfile.TemporaryDirectory() as folder:
        await front.start(engine, module.FastPath(engine, Limits(), tracer), tracer)
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
        while export is not None and export._waiting:  # what the thread has not exported is exported here
            export._export_all()
        spent += time.process_time() - started
        await front.stop()
    return spent / ((_TURNS - 3) * in_flight) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dialect", choices=_DIALECTS, default="v2")
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--ratio", type=float, default=0.01)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    # As in a front: see gateway/front/process.py.
    gc.freeze()
    gc.set_threshold(10_000, *gc.get_threshold()[1:])
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=_receive, args=(theirs,), daemon=True)
    receiver.start()
    url = f"http://127.0.0.1:{ours.recv()}"
    kinds: dict[str, float | None] = {"off": None, "none sampled": 0.0, f"{options.ratio:g} sampled": options.ratio}
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, ratio in kinds.items():
            found[kind].append(uvloop.run(_round(options.dialect, options.in_flight, ratio, url)))
    for kind, figures in found.items():
        more = [figure - off for figure, off in zip(figures, found["off"], strict=True)]
        print(
            f"{options.dialect}, {kind}: median {statistics.median(figures):.2f}, min {min(figures):.2f} µs; "
            f"more than off: median {statistics.median(more):.2f}, of minima {min(figures) - min(found['off']):.2f} µs"
        )
    receiver.terminate()


if __name__ == "__main__":
    main()
