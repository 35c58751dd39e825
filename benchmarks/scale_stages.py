"""What a small request costs in each process, by the number of fronts and of requests in flight.

    python -m benchmarks.scale_stages [--short]

These are the figures from which benchmarks/scale_simulation.py computes. The tiny model over v2 JSON; all processes are
on the first core, so the figures include what they cost each other there. Minima of several rounds, because noise only
adds time.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks import h2load, models, requests
from benchmarks.batching import busy
from benchmarks.memory import pids
from benchmarks.overhead import ROW
from benchmarks.report import table
from benchmarks.servers import cpu_seconds, gateway

_FRONTS = (1, 4)
_IN_FLIGHT = (8, 32, 256)
_IDLE_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="5 rounds of 4,000 requests instead of 15 of 8,000")
    options = parser.parse_args()
    rounds, count = (5, 4000) if options.short else (15, 8000)
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        models.tiny_mlp(folder / "tiny" / "1" / "model.onnx")
        for fronts in _FRONTS:
            with gateway(folder, "--fronts", str(fronts), models=["tiny"]) as server:
                load = requests.v2_json(server.ports["http"], "tiny", ROW)
                parts = {
                    "front": pids(server, "front-"),
                    "worker": pids(server, "worker"),
                    "supervisor": [server.process.pid],
                }
                for in_flight in _IN_FLIGHT:
                    h2load.run(load, 10 * in_flight, in_flight)
                    found: dict[str, list[float]] = {name: [] for name in (*parts, "rows")}
                    for _ in range(rounds):
                        runs = busy(server)
                        before = {name: sum(map(cpu_seconds, each)) for name, each in parts.items()}
                        h2load.run(load, count, in_flight)
                        for name, each in parts.items():
                            found[name].append((sum(map(cpu_seconds, each)) - before[name]) / count * 1e6)
                        _, batches, done = (after - was for after, was in zip(busy(server), runs, strict=True))
                        found["rows"].append(done / batches)
                    mean_rows = sum(found["rows"]) / rounds
                    cells = [min(found["front"]), min(found["worker"]), mean_rows]
                    rows.append([str(fronts), str(in_flight), *(f"{cell:.1f}" for cell in cells)])
                before_s = cpu_seconds(server.process.pid)
                time.sleep(_IDLE_S)
                idle_ms = (cpu_seconds(server.process.pid) - before_s) / _IDLE_S * 1e3
                print(f"{fronts} fronts: supervisor {idle_ms:.2f} ms of CPU per second")
    head = ["fronts", "in flight", "front, µs per request", "worker, µs per request", "rows per batch"]
    print(f"\n{rounds} rounds of {count} requests\n\n{table(head, rows)}")


if __name__ == "__main__":
    main()
