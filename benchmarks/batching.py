"""How busy batching keeps the hardware: rows per second and busy time per row, against the framework's best batch.

    python -m benchmarks.batching [--short] [--layers 24 96]

A convolutional network in ONNX at several costs per row, with one row per request. The worker and the bare framework
are pinned to the first core with one thread, front and load generator to the others, so that only batching is
compared. First, the framework runs each batch size in a loop; 64 requests in flight are compared with its best, round
by round. Busy time is the worker's own count (modelport_execution_seconds) per row, against the framework's at the
observed mean batch size. Low load is one request at a time, against a batch of one.
"""

import argparse
import os
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import h2load, models, requests
from benchmarks.environments import Bare, bare
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import Server, first_core, gateway, other_cores

SHAPE = (1, 8, 8)
ROW = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, *SHAPE)
SIZES = (1, 2, 4, 8, 16, 32)


def rate(framework: Bare, rows: int, seconds: float) -> float:
    """Return the rows per second in batches of this size."""
    _, one = framework.seconds(rows, 1)
    times = max(int(seconds / one), 1)
    return rows * times / framework.seconds(rows, times)[1]


def only_the_worker_here(server: Server) -> None:
    """Move every other process to the other cores."""
    for process in server.tree():
        if "runtimes/worker" not in " ".join(process.cmdline()):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="3 rounds of 1 s instead of 11 of 3 s")
    parser.add_argument("--layers", type=int, nargs="+", default=[24, 96], help="about 0.05 ms a row each")
    options = parser.parse_args()
    rounds, seconds = (3, 1.0) if options.short else (11, 3.0)
    rows = []
    for layers in options.layers:
        with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
            artifact = Path(made) / "network" / "1" / "model.onnx"
            models.convolutions(artifact, layers)
            framework = stack.enter_context(bare("onnx", artifact, SHAPE))
            ours = stack.enter_context(gateway(Path(made), models=["network"]))
            only_the_worker_here(ours)
            load = requests.v2_binary(ours.ports["http"], "network", ROW)
            best = max(SIZES, key=lambda size: rate(framework, size, seconds / 3))
            h2load.run(load, 640, 64)
            measured: dict[str, list[float]] = {name: [] for name in ("theirs", "ours", "one", "alone", "busy", "run")}
            for _ in range(rounds):
                theirs = rate(framework, best, seconds)
                before = busy(ours)
                run = h2load.run(load, max(int(theirs * seconds), 64), 64)
                spent, runs, done = (after - was for after, was in zip(busy(ours), before, strict=True))
                measured["theirs"].append(theirs)
                measured["ours"].append(run.count / run.seconds)
                size = max(round(done / max(runs, 1)), 1)
                measured["busy"].append(spent / done * 1e6)
                measured["run"].append(1e6 / rate(framework, size, seconds / 2))
                one = rate(framework, 1, seconds / 2)
                measured["one"].append(1e6 / one)
                measured["alone"].append(h2load.run(load, max(int(one * seconds / 2), 20), 1).percentile(50) * 1e6)
            rows.append(
                [
                    f"{statistics.median(measured['one']) / 1e3:.2f}",
                    str(best),
                    median_and_spread(measured["ours"], 0),
                    ratio(measured["ours"], measured["theirs"]),
                    ratio(measured["busy"], measured["run"]),
                    ratio(measured["alone"], measured["one"]),
                    median_and_spread([a - b for a, b in zip(measured["alone"], measured["one"], strict=True)], 0),
                ]
            )
    head = ["ms a row", "best batch", "rows/s", "of best", "busy a row, of bare", "p50 alone, of bare", "more, µs"]
    print(f"64 in flight and one at a time, {rounds} rounds; worker on {first_core()}\n")
    print(table(head, rows))


if __name__ == "__main__":
    main()
