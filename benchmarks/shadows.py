"""What a shadow costs the requests that it shadows: their latency, with and without copies.

    python -m benchmarks.shadows [--short]

The same network is served twice, once with a shadow that gets a copy of every request and is the same network. One
request in flight, at half of the rate that the model could answer, so that copies run in the pauses as they would on a
server that is not full; and without pauses, which is the worst case. Each on two cores, where the shadow has one of its
own, and on one. Contenders take turns, and each ratio is that of neighbors in one round.
"""

import argparse
import re
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

from benchmarks import models
from benchmarks.pipelines import Client
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import Server, first_core, gateway, other_cores

_SHADOWED = '[traffic]\nweights = { "1" = 1 }\nshadow = { version = 2, of = 1 }\n'
_COUNT = 60  # requests of a turn
_SHAPE = [1, 1, 8, 8]


def _turn(client: Client, model: str, data: memoryview, pause: float) -> list[float]:
    """Return the latencies. pause: seconds after each request, as a part of its latency."""
    found = []
    for _ in range(_COUNT):
        start = time.perf_counter()
        client.infer(model, data, _SHAPE)
        found.append(time.perf_counter() - start)
        time.sleep(found[-1] * pause)
    return found


def _outcomes(server: Server) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports['http']}/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r'^modelport_shadow_requests_total\{.*outcome="(\w+)".*\} (\S+)$', text, re.M)
    return ", ".join(f"{name} {float(count):.0f}" for name, count in found if float(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="5 rounds instead of 15")
    rounds = 5 if parser.parse_args().short else 15
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, toml in (("alone", ""), ("shadowed", _SHADOWED)):
            for version in ("1", "2"):
                (folder / name / version).mkdir(parents=True)
                models.convolutions(folder / name / version / "model.onnx")
            (folder / name / "model.toml").write_text("version_policy = { all = true }\nthreads = 1\n" + toml)
        data = memoryview(np.random.default_rng(1).normal(size=_SHAPE).astype(np.float32)).cast("B")
        for cores in (first_core() | other_cores(), first_core()):
            for pause in (1.0, 0.0):
                with gateway(folder, models=["alone", "shadowed"], cores=cores) as server:
                    client = Client(server.ports["http"])
                    found: dict[str, list[list[float]]] = {"alone": [], "shadowed": []}
                    for _ in range(rounds):
                        for model, turns in found.items():
                            turns.append(_turn(client, model, data, pause))
                    for share, name in ((0.5, "p50"), (0.95, "p95")):
                        alone, shadowed = (
                            [float(np.quantile(turn, share)) for turn in found[model]]
                            for model in ("alone", "shadowed")
                        )
                        rows.append(
                            [
                                str(len(cores)),
                                "half" if pause else "full",
                                name,
                                median_and_spread([value * 1e3 for value in alone], 2),
                                median_and_spread([value * 1e3 for value in shadowed], 2),
                                ratio(shadowed, alone),
                                _outcomes(server) if name == "p95" else "",
                            ]
                        )
    print(f"{rounds} rounds of {_COUNT} requests, one in flight\n")
    print(table(["cores", "load", "", "alone, ms", "with a shadow, ms", "ratio", "copies"], rows))


if __name__ == "__main__":
    main()
