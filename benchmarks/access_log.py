"""The CPU time of a front per request, without an access log, with one, and with ids of requests.

    python -m benchmarks.access_log [--dialect v2|plain|binary|grpc] [--in-flight 32] [--rounds 15]

As benchmarks.traces; the thread that writes the log counts. Ids are sent over HTTP only.
"""

import argparse
import gc
import logging
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import uvloop

from benchmarks.front_path import _DIALECTS
from benchmarks.observed import Observation, cpu_time
from gateway.engine.engine import FrontEngine
from gateway.front.base.access_log import AccessLog
from gateway.process.line_file import LineFile


def _nobody(engine: FrontEngine) -> Observation:
    return Observation()


def _access_log(path: Path) -> Callable[[FrontEngine], Observation]:
    def observe(engine: FrontEngine) -> Observation:
        file = LineFile(path, "access log", logging.getLogger("benchmark"))

        def finish() -> None:
            file.close()
            assert not file.dropped

        return Observation(AccessLog(file), finish)

    return observe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dialect", choices=_DIALECTS, default="v2")
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    # As in a front: see gateway/front/process.py.
    gc.freeze()
    gc.set_threshold(10_000, *gc.get_threshold()[1:])
    named = {"x-request-id": "5f0c8d52-order-17"}
    with tempfile.TemporaryDirectory() as folder:
        log = _access_log(Path(folder, "access.jsonl"))
        kinds = {"off": (_nobody, None), "ids": (_nobody, named), "log": (log, None), "log and ids": (log, named)}
        found: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(options.rounds):
            for kind, (observe, headers) in kinds.items():
                found[kind].append(uvloop.run(cpu_time(options.dialect, options.in_flight, observe, headers)))
    for kind, figures in found.items():
        more = [figure - off for figure, off in zip(figures, found["off"], strict=True)]
        print(
            f"{options.dialect}, {kind}: median {statistics.median(figures):.2f}, min {min(figures):.2f} µs; "
            f"more than off: median {statistics.median(more):.2f} µs"
        )


if __name__ == "__main__":
    main()
