"""modelport score against the bare framework's best batch, on the same cores: rows per second.

    python -m benchmarks.score [--short] [--cores 1] [--rounds 5] [--model ResNet]

The bare framework has a process with one thread on each core, and all of these run at the same time. modelport score
has as many instances with one thread, and all its processes share the cores with them: reading the input, the engine
and writing the output are in its figure. Loading the model is in neither. The rounds take turns.

Rows per second need a machine that has nothing else to do. The CPU time of a row does not: it is the difference between
runs with all rows and with a few, so it has no start either.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import models
from benchmarks.environments import Bare, bare
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import ROOT, on_cores

_BATCHES = (1, 8, 16, 32, 64)
# name → what makes the model, the shape of a row, and how many rows fill some seconds of one core
_MODELS: dict[str, tuple[Callable[[Path], None], tuple[int, ...], int]] = {
    "1 ms a row, 256 bytes": (lambda path: models.convolutions(path, 60), (1, 8, 8), 3000),
    "ResNet-18, 588 KiB": (models.residual_network, (3, 224, 224), 200),
    "2 µs a row, 64 bytes": (models.tiny_mlp, (16,), 400_000),
}


def write_input(path: Path, shape: tuple[int, ...], rows: int) -> None:
    """Write a table with one column, in row groups."""
    random = np.random.default_rng(0)
    size = int(np.prod(shape))
    schema = pa.schema([("x", pa.list_(pa.float32(), size))])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 4096):
            values = random.normal(size=min(4096, rows - start) * size).astype(np.float32)
            writer.write_table(pa.table([pa.FixedSizeListArray.from_arrays(pa.array(values), size)], schema=schema))


def scored(model: Path, source: Path, output: Path, rows: int, cores: set[int]) -> tuple[float, float]:
    """Return the rows per second, and the CPU seconds of all processes of the run."""
    command = [sys.executable, "-m", "gateway", "score", str(model), str(source), "--output", str(output)]
    command += ["--threads", "1", "--instances", str(len(cores)), "--overwrite"]
    before = _cpu_of_children()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, preexec_fn=on_cores(cores))
    found = re.search(rf"read {rows:,} = scored {rows:,} .* at ([\d,]+) rows/s", done.stdout)
    assert found is not None, done.stdout + done.stderr
    return float(found[1].replace(",", "")), _cpu_of_children() - before


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def best_batch(references: Sequence[Bare], seconds: float) -> tuple[int, float, float]:
    """Return the number of rows with the highest throughput, that throughput, and the CPU seconds of a row."""
    found, cpu = dict[int, float](), dict[int, float]()
    with ThreadPoolExecutor(len(references)) as pool:
        for rows in _BATCHES:
            references[0].seconds(rows, 2)
            times = max(int(seconds / max(references[0].seconds(rows, 2)[1] / 2, 1e-6)), 1)
            used, elapsed = zip(*pool.map(lambda each: each.seconds(rows, times), references), strict=True)  # noqa: B023
            found[rows] = sum(rows * times / each for each in elapsed)
            cpu[rows] = sum(used) / rows / times / len(references)
    best = min(cpu, key=cpu.__getitem__)
    return best, found[best], cpu[best]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one round, fewer rows")
    parser.add_argument("--cores", type=int, default=1, help="how many cores both have (default 1)")
    parser.add_argument("--rounds", type=int, default=5, help="without --short (default 5)")
    parser.add_argument("--model", default="", metavar="TEXT", help="only those whose names begin with this")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: options.cores]
    lines = []
    chosen = {name: each for name, each in _MODELS.items() if name.startswith(options.model)}
    for name, (make, shape, count) in chosen.items():
        rows, rounds = (count // 4, 1) if options.short else (count, options.rounds)
        rows *= len(cores)
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            folder = Path(scratch)
            model, source, output = folder / "model.onnx", folder / "in.parquet", folder / "out.parquet"
            make(model)
            write_input(source, shape, rows)
            few = rows // 8
            write_input(folder / "few.parquet", shape, few)
            ours, theirs, best = list[float](), list[float](), 0
            our_cpu, their_cpu = list[float](), list[float]()
            references = [stack.enter_context(bare("onnx", model, shape, {core})) for core in cores]
            for _ in range(rounds):
                best, found, cpu = best_batch(references, 0.3 if options.short else 1.0)
                theirs.append(found)
                their_cpu.append(cpu)
                _, start = scored(model, folder / "few.parquet", output, few, set(cores))
                per_second, used = scored(model, source, output, rows, set(cores))
                ours.append(per_second)
                our_cpu.append((used - start) / (rows - few))
        figures = [median_and_spread(theirs, 0), str(best), median_and_spread(ours, 0), ratio(ours, theirs)]
        minima = f"{min(their_cpu) / min(our_cpu):.2f}"
        lines.append([name, *figures, ratio(their_cpu, our_cpu), minima])
        print(*lines[-1], file=sys.stderr, flush=True)
    head = ["model", "bare, rows/s", "best batch", "score, rows/s", "ratio", "ratio of CPU time", "of its minima"]
    print(table(head, lines))


if __name__ == "__main__":
    main()
