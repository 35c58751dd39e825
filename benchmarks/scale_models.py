"""Models: the memory of 100 loaded models, and whether 99 idle ones slow down the active one.

All are copies of the tiny ONNX model, each with its own worker. Memory is the workers' PSS, which counts a shared page
once. The active model is compared with one in a gateway without others.
"""

import shutil
import statistics
import time
from contextlib import ExitStack

from benchmarks import models, requests
from benchmarks.memory import MIB, Held, held, pids
from benchmarks.overhead import ROW, Contender
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.scale_bench import Bench
from benchmarks.servers import Server, gateway

_MANY, _MANY_IN_SHORT = 100, 20
_MAX_MIB = 12
_IN_FLIGHT = 32
_IDLE_S = 5.0


def measure(bench: Bench) -> str:
    count = _MANY_IN_SHORT if bench.short else _MANY
    names = [f"m{number}" for number in range(count)]
    artifact = bench.folder / "alone" / "m0" / "1" / "model.onnx"
    models.tiny_mlp(artifact)
    for name in names:
        shutil.copytree(artifact.parent, bench.folder / "many" / name / "1")
    with ExitStack() as stack:
        began = time.perf_counter()
        many = stack.enter_context(gateway(bench.folder / "many", models=names, cores=set(bench.cores)))
        took = time.perf_counter() - began
        workers = [held(pid) for pid in pids(many, "worker-")]
        others = {kind: [held(pid) for pid in pids(many, kind)] for kind in ("supervisor", "front-", "zygote-")}
        idle = _idle(many)
        alone = stack.enter_context(gateway(bench.folder / "alone", models=["m0"], cores=set(bench.cores)))
        one, of_many = (Contender(s, requests.v2_binary(s.ports["http"], "m0", ROW)) for s in (alone, many))
        bench.take_turns([(one, _IN_FLIGHT), (of_many, _IN_FLIGHT)])
        idle_alone = _idle(alone)
    assert len(workers) == count, f"{len(workers)} workers for {count} models"
    told_memory = _memory(workers, others)
    head = ["", "CPU µs a request", "of alone", "requests/s", "of alone", "p99 µs", "CPU ms a second when idle"]
    rows = [
        _row("alone", one, one, idle_alone),
        _row(f"with {count - 1} idle ones", of_many, one, idle),
    ]
    return f"{count} models, all READY after {took:.1f} s\n\n{told_memory}\n\n{table(head, rows)}"


def _memory(workers: list[Held], others: dict[str, list[Held]]) -> str:
    pss = sum(each.pss for each in workers) / len(workers) / MIB
    rows = [
        ["a worker (mean)", f"{pss:.1f}", _mean(workers, "rss"), _mean(workers, "uss"),
         f"≤ {_MAX_MIB}: {'met' if pss <= _MAX_MIB else 'missed'}"],
        *([kind.strip("-"), _mean(every, "pss"), _mean(every, "rss"), _mean(every, "uss"), ""]
          for kind, every in others.items() if every),
    ]  # fmt: skip
    return table(["MiB", "PSS", "RSS", "USS", "PSS asked for"], rows)


def _mean(every: list[Held], kind: str) -> str:
    return f"{statistics.mean(getattr(each, kind) for each in every) / MIB:.1f}"


def _row(name: str, ours: Contender, alone: Contender, idle: float) -> list[str]:
    against = [ratio(ours.cpu_us, alone.cpu_us), ratio(ours.rates, alone.rates)] if ours is not alone else ["", ""]
    rate = f"{statistics.median(ours.rates):.0f}"
    return [
        name,
        median_and_spread(ours.cpu_us),
        against[0],
        rate,
        against[1],
        median_and_spread(ours.p99_us, 0),
        f"{idle * 1e3:.1f}",
    ]


def _idle(server: Server) -> float:
    """Return the CPU seconds that all processes use in one second without requests."""
    before = server.cpu_seconds()
    time.sleep(_IDLE_S)
    return (server.cpu_seconds() - before) / _IDLE_S
