"""Instances: N workers of one model that computes for milliseconds do N times the work.

There are two models. One sleeps for 5 ms per request, as if it waited for a device, so it needs no core. The other
computes for about 5 ms on one thread, so N instances need N cores, and the front needs one more. Batching is off, so
each request is one run. What a second instance costs is measured on one core: CPU time per request of the model that
computes, and of the tiny one with batching.
"""

import json
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks import models, requests
from benchmarks.overhead import ROW, Contender
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.scale_bench import COST_HEAD, COUNTS, Bench, cost
from benchmarks.servers import gateway

_IN_FLIGHT = 8  # for each instance
_SLEEPS_S = 0.005


def measure(bench: Bench) -> str:
    sleeping = [count for count in COUNTS if count <= 4]
    parts = [f"A model that sleeps {_SLEEPS_S * 1e3:g} ms\n\n{_compare(bench, 'sleeps', sleeping, bench.cores)}"]
    counts = bench.possible(lambda instances: instances + 1)
    if len(counts) > 1:
        parts.append(
            f"A model that computes, a core for each instance\n\n{_compare(bench, 'computes', counts, bench.cores)}"
        )
    parts.append(f"CPU of the whole tree, all on one core\n\n{_cost(bench)}")
    need = "N of them need N cores, the front one and the load generator one"
    parts += bench.missed("instances that compute", counts, need)
    return "\n\n".join(parts)


def _cost(bench: Bench) -> str:
    """Compare two instances with one under the same load in total, and under the same load for each instance."""
    rows = []
    for kind, in_flight in (("tiny", 32), ("computes", _IN_FLIGHT)):
        with ExitStack() as stack:
            one, two = (_start(bench, stack, kind, instances, set(bench.cores[:1])) for instances in (1, 2))
            busy_two = Contender(two.server, two.load)
            bench.take_turns([(one, in_flight), (two, in_flight), (busy_two, 2 * in_flight)])
        rows.append([f"{kind}, 1 instance, {in_flight} in flight", *cost(one, one)])
        rows.append([f"{kind}, 2 instances, {in_flight} in flight", *cost(two, one)])
        rows.append([f"{kind}, 2 instances, {2 * in_flight} in flight", *cost(busy_two, one)])
    return table(["", *COST_HEAD], rows)


def _compare(bench: Bench, kind: str, counts: list[int], cores: tuple[int, ...]) -> str:
    with ExitStack() as stack:
        stack.enter_context(fake_runtime(bench.folder))
        every = {n: _start(bench, stack, kind, n, set(cores)) for n in counts}
        bench.take_turns([(contender, _IN_FLIGHT * n) for n, contender in every.items()])
    rows = []
    for n, contender in every.items():
        rate = f"{statistics.median(contender.rates):.0f}"
        rows.append(
            [
                str(n),
                rate,
                ratio(contender.rates, every[1].rates),
                f"≥ {0.9 * n:.1f}",
                median_and_spread(contender.cpu_us),
            ]
        )
    return table(["instances", "requests/s", "of 1", "asked for", "CPU µs a request"], rows)


def _start(bench: Bench, stack: ExitStack, kind: str, instances: int, cores: set[int]) -> Contender:
    repository = bench.folder / f"{kind}-{instances}-{len(cores)}"
    folder = repository / kind / "1"
    folder.mkdir(parents=True)
    batching = "" if kind == "tiny" else "max_batch_size = 0\n"
    (repository / kind / "model.toml").write_text(f"instances = {instances}\nthreads = 1\n{batching}")
    if kind == "tiny":
        models.tiny_mlp(folder / "model.onnx")
        row = ROW
    elif kind == "sleeps":
        (folder / "model.fake.json").write_text(json.dumps({"seconds_per_batch": _SLEEPS_S}))
        row = np.ones((1, 4), np.float32)
    else:
        models.convolutions(folder / "model.onnx")
        row = np.ones((1, 1, 8, 8), np.float32)
    python = ["--python", f"fake={sys.executable}"] if kind == "sleeps" else []
    server = stack.enter_context(gateway(repository, *python, models=[kind], cores=cores))
    return Contender(server, requests.v2_binary(server.ports["http"], kind, row))


@contextmanager
def fake_runtime(folder: Path) -> Iterator[None]:
    """Install the fake runtime, like a third-party runtime, for gateways that are started in this context."""
    info = folder / "plugin" / "modelport_fake-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: modelport-fake\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelport.runtimes]\nfake = runtimes.fake\n")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(info.parent)
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before
