"""The two figures for latency targets, over thousands of seeds in simulated time (tests/support/simulated_serving.py).

    python -m benchmarks.slo_simulation [SEEDS]

Each kind of arrivals is simulated with SEEDS seeds, spread over cost curves and worlds. A world has a number of fronts
and workers, jitter, and drift. Each run has 2000 requests. The target is three times the duration of the batch with the
highest throughput, or four times if durations scatter by 15 %.
"""

import argparse
import itertools
import statistics
from typing import Any

from benchmarks.report import table
from tests.support.simulated_serving import ARRIVALS, COSTS, Count, measure

WORLDS: list[dict[str, Any]] = [
    {},
    {"fronts": 3},
    {"instances": 2, "fronts": 2, "jitter": 0.1},
    {"drift": 0.3},
    {"jitter": 0.15, "multiple": 4.0},
]
LOADS = (0.3, 0.6, 0.85, 1.2, 2.0)
WARM = (1, 2, 4, 8, 16, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", type=int, nargs="?", default=100, help="for each load and each kind of arrivals")
    seeds = parser.parse_args().seeds
    kinds = list(itertools.product(COSTS, WORLDS))
    rows = []
    for arrivals in ARRIVALS:
        goodput = dict.fromkeys(LOADS, 0.0)
        for load in LOADS:
            total, shares = Count(), []
            for seed in range(seeds):
                cost, world = kinds[seed % len(kinds)]
                count = measure(cost, arrivals, load, [seed], warm=WARM, **world)
                shares.append(count.met / count.admitted)
                total += count
            goodput[load] = total.met / total.offered * load
            rows.append(
                [
                    arrivals,
                    f"{load}",
                    f"{total.met / total.admitted:.4f}",
                    f"{statistics.quantiles(shares, n=100)[0]:.3f}",
                    f"{total.rejected / total.offered:.3f}",
                    f"{total.met / total.possible:.2f}",
                    f"{goodput[load]:.2f}",
                    f"{goodput[load] / max(goodput.values()):.2f}",
                ]
            )
    head = [
        "arrivals",
        "load",
        "in time of admitted",
        "worst 1 % of runs",
        "refused",
        "of possible",
        "goodput",
        "of peak",
    ]
    print(f"{seeds} seeds each\n")
    print(table(head, rows))


if __name__ == "__main__":
    main()
