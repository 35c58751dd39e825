"""Fronts: how throughput grows with their number, and what several of them cost.

Throughput of N fronts needs a core for each front, and one for each worker. There are as many workers as fronts, so
that workers are not the limit. CPU time per request is compared on one core, where it can always be measured.
"""

import statistics
from contextlib import ExitStack
from pathlib import Path

from benchmarks import models, requests
from benchmarks.memory import pids
from benchmarks.overhead import ROW, Contender
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.scale_bench import COST_HEAD, Bench, cost
from benchmarks.servers import cpu_seconds, gateway

_IN_FLIGHT = 32  # for each front


def measure(bench: Bench) -> str:
    parts = [_cost(bench)]
    counts = bench.possible(lambda fronts: 2 * fronts)
    if len(counts) > 1:
        parts.append(_throughput(bench, counts))
    parts += bench.missed("fronts", counts, "N fronts and N workers need 2 N cores, and the load generator one more")
    return "\n\n".join(parts)


def _cost(bench: Bench) -> str:
    """Compare two fronts with one under the same load in total, and under the same load for each front."""
    with ExitStack() as stack:
        one, two = (_start(bench, stack, fronts, 1, set(bench.cores[:1])) for fronts in (1, 2))
        busy_two = Contender(two.server, two.load)
        bench.take_turns([(one, _IN_FLIGHT), (two, _IN_FLIGHT), (busy_two, 2 * _IN_FLIGHT)])
    rows = [[f"1 front, {_IN_FLIGHT} in flight", *cost(one, one)]]
    rows += [
        [f"2 fronts, {in_flight} in flight", *cost(contender, one)]
        for contender, in_flight in ((two, _IN_FLIGHT), (busy_two, 2 * _IN_FLIGHT))
    ]
    return f"CPU of the whole tree, all on one core\n\n{table(['', *COST_HEAD], rows)}"


def _throughput(bench: Bench, counts: list[int]) -> str:
    rows = []
    with ExitStack() as stack:
        every = {n: _start(bench, stack, n, n, set(bench.cores[: 2 * n])) for n in counts}
        fronts = {n: pids(contender.server, "front-") for n, contender in every.items()}
        before = {n: [cpu_seconds(pid) for pid in fronts[n]] for n in counts}
        bench.take_turns([(contender, _IN_FLIGHT * n) for n, contender in every.items()])
        for n, contender in every.items():
            used = [cpu_seconds(pid) - then for pid, then in zip(fronts[n], before[n], strict=True)]
            rows.append(
                [
                    str(n),
                    f"{statistics.median(contender.rates):.0f}",
                    ratio(contender.rates, every[1].rates),
                    f"≥ {0.9 * n:.1f}",
                    median_and_spread(contender.cpu_us),
                    f"{max(used) / sum(used) * n:.2f}",
                ]
            )
    head = ["fronts", "requests/s", "of 1 front", "asked for", "CPU µs a request", "busiest front, of the mean"]
    return f"A core for each front and each worker, {_IN_FLIGHT} requests in flight a front\n\n{table(head, rows)}"


def _start(bench: Bench, stack: ExitStack, fronts: int, instances: int, cores: set[int]) -> Contender:
    repository = Path(bench.folder, f"{fronts}-{instances}-{len(cores)}")
    models.tiny_mlp(repository / "tiny" / "1" / "model.onnx")
    (repository / "tiny" / "model.toml").write_text(f"instances = {instances}\nthreads = 1\n")
    server = stack.enter_context(gateway(repository, "--fronts", str(fronts), models=["tiny"], cores=cores))
    return Contender(server, requests.v2_binary(server.ports["http"], "tiny", ROW))
