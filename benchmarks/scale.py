"""How the gateway scales: throughput with fronts and instances, memory with models, cost with open connections.

    python -m benchmarks.scale [--short] [--only fronts|instances|models|connections]

The load generator runs on the last core, and servers run on other cores, as each part describes. Measurements that need
more cores than the machine has are reported as missing, not estimated. Rounds are interleaved, and ratios are those of
neighbors.
"""

import argparse
import os
import tempfile
from pathlib import Path

from benchmarks import scale_connections, scale_fronts, scale_instances, scale_models
from benchmarks.scale_bench import Bench

PARTS = {
    "fronts": scale_fronts.measure,
    "instances": scale_instances.measure,
    "models": scale_models.measure,
    "connections": scale_connections.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer and shorter rounds, 20 models, 2,000 connections")
    parser.add_argument("--only", choices=tuple(PARTS), help="one part")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])  # the load generators inherit it; servers are assigned their cores explicitly
    print(f"{len(cores)} cores, one of them for the load generator")
    for name, measure in PARTS.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                print(f"\n## {name}\n\n{measure(Bench(tuple(cores[:-1] or cores), Path(folder), options.short))}")


if __name__ == "__main__":
    main()
