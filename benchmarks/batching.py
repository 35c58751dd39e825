"""How busy batching keeps the hardware: rows per second and busy time per row, against the framework's best batch.

    python -m benchmarks.batching [--short] [--layers 2 24 96]

A convolutional network in ONNX at several costs per row, with one row per request. With two layers, their width is
chosen so that a row costs about 50 µs in the bare framework's best batch on this machine, as it is now. The worker and
the bare framework are pinned to the first core with one thread, front and load generator to the others, so that only
batching is compared. First, the framework runs each batch size in a loop; 64 requests in flight are compared with its
best, round by round. Busy time is the worker's own count (modelport_execution_seconds) per row, against the framework's
at the observed mean batch size. The worker's CPU time per row includes its loop, so its ratio is what throughput loses
where front and clients have cores enough.

Low load is one request at a time, against a batch of one, and against the sketch: the same path with nothing on it.
"""

import argparse
import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import h2load, models, requests
from benchmarks.environments import Bare, bare
from benchmarks.h2load import Load
from benchmarks.references.serve import session
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import Server, cpu_seconds, first_core, gateway, other_cores, reference

SHAPE = (1, 8, 8)
ROW = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, *SHAPE)
SIZES = (1, 2, 4, 8, 16, 32)
# What a row of the cheapest network is to cost, in µs, and the widths among which the nearest is chosen.
CHEAP_US = 50
WIDTHS = (48, 64, 80, 96, 112, 128)


def rate(framework: Bare, rows: int, seconds: float) -> float:
    """Return the rows per second in batches of this size."""
    _, one = framework.seconds(rows, 1)
    times = max(int(seconds / one), 1)
    return rows * times / framework.seconds(rows, times)[1]


def cpu_us(framework: Bare, rows: int, seconds: float) -> float:
    """Return the CPU microseconds per row in batches of this size."""
    one, _ = framework.seconds(rows, 1)
    times = max(int(seconds / one), 1)
    return framework.seconds(rows, times)[0] / rows / times * 1e6


def leave_only(server: Server, pid: int) -> None:
    """Move all processes but this one to the other cores."""
    for process in server.tree():
        if process.pid != pid:
            for thread in process.threads():
                os.sched_setaffinity(thread.id, other_cores())


def busy(server: Server) -> tuple[float, float, float]:
    """Return the totals so far: the seconds that the model has run, the number of runs, and the number of rows."""
    text = httpx.get(f"http://127.0.0.1:{server.ports['http']}/metrics", timeout=30).text
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    rows, runs = found["modelport_batch_rows_sum"], found["modelport_batch_rows_count"]
    return found["modelport_execution_seconds_total"], runs, rows


@dataclass(frozen=True)
class Contenders:
    """The same model in the bare framework, in the gateway and in the sketch. `worker` is the pid of the gateway's."""

    framework: Bare
    ours: Server
    sketch: Server
    worker: int
    load: Load
    sketch_load: Load


def make_cheap(artifact: Path) -> None:
    """Make the network with two layers of which a row costs most nearly CHEAP_US in its best batch."""
    costs = {}
    for width in WIDTHS:
        models.convolutions(artifact, 2, width)
        with bare("onnx", artifact, SHAPE) as framework:
            costs[width] = min(cpu_us(framework, size, 0.1) for size in (8, 16, 32) for _ in range(3))
    width = min(costs, key=lambda width: abs(costs[width] - CHEAP_US))
    print(f"two layers of width {width}: {costs[width]:.0f} µs a row")
    models.convolutions(artifact, 2, width)


def start(stack: ExitStack, folder: Path, layers: int) -> Contenders:
    """Start the contenders, and check one answer of each server."""
    artifact = folder / "network" / "1" / "model.onnx"
    if layers == 2:
        make_cheap(artifact)
    else:
        models.convolutions(artifact, layers)
    framework = stack.enter_context(bare("onnx", artifact, SHAPE))
    ours = stack.enter_context(gateway(folder, models=["network"]))
    sketch = stack.enter_context(reference("sketch", str(artifact), ports=("grpc", "port")))
    # The newest one: it is a copy of another process with the same command line (decision 0032).
    workers = [process for process in ours.tree() if "runtimes/worker" in " ".join(process.cmdline())]
    worker = max(workers, key=lambda process: process.create_time()).pid
    leave_only(ours, worker)
    leave_only(sketch, sketch.tree()[1].pid)
    load = requests.v2_binary(ours.ports["http"], "network", ROW)
    sketch_load = requests.v2_binary(sketch.ports["port"], "network", ROW)
    (expected,) = session(str(artifact)).run(None, {"x": ROW})
    for each in (load, sketch_load):
        requests.check(each, expected)
    return Contenders(framework, ours, sketch, worker, load, sketch_load)


def many_in_flight(these: Contenders, rounds: int, seconds: float) -> list[str]:
    framework, load = these.framework, these.load
    best = max(SIZES, key=lambda size: rate(framework, size, seconds / 3))
    h2load.run(load, 640, 64)
    theirs, ours, cpu, best_cpu, busy_us, run_us, sizes = ([] for _ in range(7))  # type: tuple[list[float], ...]
    for _ in range(rounds):
        theirs.append(rate(framework, best, seconds))
        best_cpu.append(cpu_us(framework, best, seconds / 2))
        before, cpu_before = busy(these.ours), cpu_seconds(these.worker)
        run = h2load.run(load, max(int(theirs[-1] * seconds), 64), 64)
        cpu.append((cpu_seconds(these.worker) - cpu_before) / run.count * 1e6)
        spent, runs, done = (after - was for after, was in zip(busy(these.ours), before, strict=True))
        ours.append(run.count / run.seconds)
        sizes.append(max(round(done / max(runs, 1)), 1))
        busy_us.append(spent / done * 1e6)
        run_us.append(1e6 / rate(framework, int(sizes[-1]), seconds / 2))
    return [
        f"{min(best_cpu):.0f}",
        str(best),
        f"{statistics.median(sizes):.0f}",
        median_and_spread(ours, 0),
        ratio(ours, theirs),
        ratio(busy_us, run_us),
        f"{ratio(cpu, best_cpu)}, {min(cpu) / min(best_cpu):.2f}",
    ]


def one_at_a_time(these: Contenders, rounds: int, seconds: float) -> list[str]:
    """Measure in many short turns: one p50 of a busy machine is that of whatever else runs."""
    one, ours, sketch, cpu, sketch_cpu = ([] for _ in range(5))  # type: tuple[list[float], ...]
    for _ in range(4 * rounds):
        one.append(1e6 / rate(these.framework, 1, seconds / 16))
        count = max(int(seconds / 16 / one[-1] * 1e6), 20)
        for server, load, latencies, spent in (
            (these.ours, these.load, ours, cpu),
            (these.sketch, these.sketch_load, sketch, sketch_cpu),
        ):
            before = server.cpu_seconds()
            latencies.append(h2load.run(load, count, 1).percentile(50) * 1e6)
            spent.append((server.cpu_seconds() - before) / count * 1e6)
    return [
        f"{min(one):.0f}",
        f"{min(sketch):.0f}",
        f"{min(ours):.0f}",
        ratio(ours, sketch),
        f"{min(ours) / min(sketch):.2f}",
        f"{ratio(cpu, sketch_cpu)}, {min(cpu) / min(sketch_cpu):.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="3 rounds of 1 s instead of 11 of 3 s")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 24, 96], help="about 0.05 ms a row each")
    options = parser.parse_args()
    rounds, seconds = (3, 1.0) if options.short else (11, 3.0)
    many, single = [], []
    for layers in options.layers:
        with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
            these = start(stack, Path(made), layers)
            many.append(many_in_flight(these, rounds, seconds))
            single.append(one_at_a_time(these, rounds, seconds))
    print(f"64 in flight, {rounds} rounds; worker on {first_core()}\n")
    head = ["µs a row", "best batch", "mean batch", "rows/s", "of best", "busy a row, of bare"]
    print(table([*head, "worker CPU a row, of best; of minima"], many))
    print(f"\nOne at a time, {4 * rounds} rounds; p50 in µs\n")
    head = ["least of a batch of one", "of the sketch", "of the gateway", "p50, of the sketch", "of minima"]
    print(table([*head, "CPU, of the sketch; of minima"], single))


if __name__ == "__main__":
    main()
