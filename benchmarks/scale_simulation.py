"""Where the next wall is with 16 and 64 cores: arithmetic from the measured stages of a request.

    python -m benchmarks.scale_simulation

Each front, and each worker, is one thread, so it has one core. Throughput is that of whatever is busy first: the
fronts, or the workers. For each number of cores, the best division into fronts and workers is found. What the
kernel does for a process is in the process's own time; the clients are elsewhere. Cores that share caches and memory
make each other slower, which is not computed, so the figures are upper limits.
"""

import random
import statistics
from typing import NamedTuple

from benchmarks.report import table


class Stages(NamedTuple):
    """What a request costs, in microseconds of CPU time.

    front        in a front, per request
    batch        in a worker, per batch with the requests of one front
    frame        in a worker, for each further front whose requests are in the batch
    model        in the model, per row
    """

    front: float
    batch: float
    frame: float
    model: float


# `python -m benchmarks.scale_stages --short`, tiny model, v2 JSON, 1 front, 32 in flight: 29.8 us in the front; in the
# worker 9.6 us per request at 19.5 rows per batch, so 187 us per batch, which includes the tiny model. The Python of a
# further front: `python -m benchmarks.worker_path --fronts 16` (6.9 us per request) and `--fronts 1` (1.3) differ by
# 32 * 5.6 / 15 = 12 us for each; a receive and a send on a Unix socket take 3 us more.
TINY = Stages(front=29.8, batch=187.0, frame=15.0, model=0.0)
# `python -m benchmarks.batching --short`: the convolutional network with 24 layers takes 905 us per row.
CONVOLUTIONS = TINY._replace(model=905.0)
# `python -m benchmarks.payload --short`, binary, 602 kB: 16.76 ms in the framework alone; front and worker cost 1.5 ms
# more, of which 0.9 ms are the front's.
IMAGES = Stages(front=900.0, batch=600.0, frame=TINY.frame, model=16760.0)
# `python -m benchmarks.scale_stages --short`: CPU milliseconds per second of an idle supervisor with 1 and 4 fronts.
SUPERVISOR_MS, SUPERVISOR_MS_PER_FRONT = 2.0, 0.3
# The default of max_batch_size: with enough in flight, batches are full.
MAX_ROWS = 32
# Bytes moved per byte of a large body: written to the socket's buffer, read from it, written to the arena, read by the
# framework.
COPIES = 4
IMAGE_BYTES = 3 * 224 * 224 * 4

CORES = (2, 4, 16, 64)
CONNECTIONS_PER_FRONT = (8, 32, 256)


class Point(NamedTuple):
    """Throughput in requests per second, and which of fronts and workers limits it."""

    fronts: int
    workers: int
    throughput: float
    limit: str


def front_rate(stages: Stages, fronts: int) -> float:
    return fronts * 1e6 / stages.front


def worker_rate(stages: Stages, fronts: int, workers: int, mixed: bool) -> float:
    """Requests per second of all workers. `mixed`: each batch has requests of all fronts; otherwise, of one."""
    frames = min(fronts, MAX_ROWS) if mixed else 1
    batch = stages.batch + stages.frame * (frames - 1) + stages.model * MAX_ROWS
    return workers * MAX_ROWS * 1e6 / batch


def best(stages: Stages, cores: int, mixed: bool = True) -> Point:
    """Return the division of the cores with the highest throughput."""
    points = []
    for fronts in range(1, cores):
        rates = {
            "fronts": front_rate(stages, fronts),
            "workers": worker_rate(stages, fronts, cores - fronts, mixed),
        }
        limit = min(rates, key=lambda name: rates[name])
        points.append(Point(fronts, cores - fronts, rates[limit], limit))
    return max(points, key=lambda point: point.throughput)


def balance(fronts: int, connections: int, runs: int = 300) -> float:
    """Return the mean load of a front relative to the busiest, if the kernel assigns each connection at random."""
    chance = random.Random(0)
    busiest = []
    for _ in range(runs):
        counts = [0] * fronts
        for _ in range(connections):
            counts[chance.randrange(fronts)] += 1
        busiest.append(max(counts))
    return connections / fronts / statistics.mean(busiest)


def main() -> None:
    rows = []
    for name, stages in (("tiny", TINY), ("0.9 ms per row", CONVOLUTIONS), ("602 kB, 17 ms per row", IMAGES)):
        first = best(stages, CORES[0]).throughput / CORES[0]
        for cores in CORES:
            point, unmixed = best(stages, cores), best(stages, cores, mixed=False)
            rows.append(
                [
                    name,
                    str(cores),
                    f"{point.fronts} + {point.workers}",
                    f"{point.throughput:.0f}",
                    f"{point.throughput / cores / first:.2f}",
                    point.limit,
                    f"{unmixed.throughput:.0f} ({unmixed.fronts} + {unmixed.workers})",
                ]
            )
    head = ["model", "cores", "fronts + workers", "requests/s", "per core, of 2 cores", "limit"]
    print(table([*head, "if a batch had requests of one front only"], rows))
    rows = []
    for cores in CORES[1:]:
        fronts = best(TINY, cores).fronts
        shares = [f"{balance(fronts, fronts * each):.2f}" for each in CONNECTIONS_PER_FRONT]
        supervisor = SUPERVISOR_MS + SUPERVISOR_MS_PER_FRONT * fronts
        moved = best(IMAGES, cores).throughput * IMAGE_BYTES * COPIES / 1e9
        rows.append([str(cores), str(fronts), *shares, f"{supervisor / 10:.2f} %", f"{moved:.2f}"])
    head = ["cores", "fronts", *(f"mean of busiest, {each} connections each" for each in CONNECTIONS_PER_FRONT)]
    print("\n" + table([*head, "supervisor, of a core", "602 kB bodies, GB/s"], rows))


if __name__ == "__main__":
    main()
