"""The CPU time of a front per request, without traces, with traces of which none is sampled, and of one in a hundred.

    python -m benchmarks.traces [--dialect v2|plain|binary|grpc] [--in-flight 32] [--ratio 0.01] [--rounds 15]

Like benchmarks.front_path, but the means of whole rounds, because spans are made and sent by a thread, now and then,
whose time belongs to the request's. They go to a receiver in another process. The kinds take turns.
"""

import argparse
import gc
import multiprocessing
import statistics
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from benchmarks.front_path import _DIALECTS
from benchmarks.observed import Observation, cpu_time
from gateway.domain.trace_settings import TraceSampler, TraceSettings, TraceTable
from gateway.engine.engine import FrontEngine
from gateway.front.tracing.export import SpanExport, otlp_export
from gateway.front.tracing.tracer import Tracer


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


def _traced(ratio: float | None, url: str) -> Callable[[FrontEngine], Observation]:
    """`ratio`: None without traces."""

    def observe(engine: FrontEngine) -> Observation:
        if ratio is None:
            return Observation()
        sampler = TraceSampler()
        sampler.apply(TraceTable(TraceSettings(True, 1 / ratio if ratio else 0)).to_front(1, 1))
        export = _export(url)

        def finish() -> None:
            while export._waiting:  # what the thread has not exported is exported here
                export._export_all()

        return Observation(Tracer(sampler, export.put, engine.metrics), finish)

    return observe


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
            found[kind].append(uvloop.run(cpu_time(options.dialect, options.in_flight, _traced(ratio, url))))
    for kind, figures in found.items():
        more = [figure - off for figure, off in zip(figures, found["off"], strict=True)]
        print(
            f"{options.dialect}, {kind}: median {statistics.median(figures):.2f}, min {min(figures):.2f} µs; "
            f"more than off: median {statistics.median(more):.2f}, of minima {min(figures) - min(found['off']):.2f} µs"
        )
    receiver.terminate()


if __name__ == "__main__":
    main()
