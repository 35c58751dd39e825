"""Images as bodies: how many the front decodes per second, against Pillow alone on all cores.

    python -m benchmarks.images [--short] [--in-flight 16]

JPEG and PNG of several sizes are scaled to 224x224 for an ONNX model that only averages them. All processes may use
all cores, as may the references: a pool of threads in which Pillow decodes and scales (references/pillow.py), and a
server that receives images, does the same with them, and nothing else (references/receive_and_decode.py). Contenders
take turns. The CPU time per image is compared as well: of the front with all that it does for a request, and of both
references.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import h2load, models
from benchmarks.h2load import Load
from benchmarks.memory import pids
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import ROOT, cpu_seconds, gateway, reference

_SIDE = 224
_IMAGES = ((320, 240, "JPEG"), (640, 480, "JPEG"), (1280, 960, "JPEG"), (640, 480, "PNG"))


def photo(width: int, height: int, kind: str) -> bytes:
    """Return an image file with smooth areas and noise, which compresses about as well as a photo."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (height // 16, width // 16, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = smooth + random.integers(-8, 9, smooth.shape)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, kind, quality=90)
    return file.getvalue()


class Pillow:
    """A running benchmarks/references/pillow.py."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def seconds(self, count: int) -> tuple[float, float]:
        """Return the CPU seconds and the elapsed seconds of this many images."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(count, file=self._process.stdin, flush=True)
        cpu, clock = self._process.stdout.readline().split()
        return float(cpu), float(clock)


@contextmanager
def pillow(path: Path) -> Iterator[Pillow]:
    command = [sys.executable, "-m", "benchmarks.references.pillow", str(path), str(_SIDE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield Pillow(process)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="7 rounds of 0.3 s instead of 15 of 1 s")
    parser.add_argument("--in-flight", type=int, default=16)
    options = parser.parse_args()
    rounds, seconds = (7, 0.3) if options.short else (15, 1.0)
    rows = []
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder = Path(made)
        models.channel_means(folder / "models" / "means" / "1" / "model.onnx", _SIDE)
        (folder / "models" / "means" / "model.toml").write_text(f"[preprocess]\nsize = [{_SIDE}, {_SIDE}]\n")
        cores = os.sched_getaffinity(0)
        server = stack.enter_context(gateway(folder / "models", models=["means"], cores=cores))
        receiver = stack.enter_context(reference("receive_and_decode", str(_SIDE), cores=cores))
        (front,) = pids(server, "front-")
        servers = {"received": (receiver.process.pid, receiver.ports["port"]), "ours": (front, server.ports["http"])}
        for width, height, kind in _IMAGES:
            path = folder / f"{width}.{kind}"
            path.write_bytes(photo(width, height, kind))
            headers = {"content-type": f"image/{kind.lower()}"}
            data = path.read_bytes()
            with pillow(path) as alone:
                alone.seconds(8)
                loads = {}
                for name, (_, port) in servers.items():
                    loads[name] = Load(f"http://127.0.0.1:{port}/predict/means", data, headers)
                    h2load.run(loads[name], 4 * options.in_flight, options.in_flight)
                count = max(int(seconds * 8 / alone.seconds(8)[1]), 2 * options.in_flight)
                rates: dict[str, list[float]] = {name: [] for name in ("pillow", *servers)}
                costs: dict[str, list[float]] = {name: [] for name in ("pillow", *servers)}
                for _ in range(rounds):
                    cpu, clock = alone.seconds(count)
                    rates["pillow"].append(count / clock)
                    costs["pillow"].append(cpu / count * 1e3)
                    for name, (pid, _) in servers.items():
                        before = cpu_seconds(pid)
                        run = h2load.run(loads[name], count, options.in_flight)
                        rates[name].append(count / run.seconds)
                        costs[name].append((cpu_seconds(pid) - before) / count * 1e3)
            rows.append(
                [
                    f"{width}x{height} {kind}, {len(data) // 1000} kB",
                    *[f"{statistics.median(rate):.0f}" for rate in rates.values()],
                    ratio(rates["received"], rates["pillow"]),
                    ratio(rates["ours"], rates["pillow"]),
                    ratio(rates["ours"], rates["received"]),
                    *[median_and_spread(cost, 2) for cost in costs.values()],
                    *[f"{min(costs[name]) / min(costs['ours']):.2f}" for name in ("pillow", "received")],
                ]
            )
    head = ["image", "images/s: Pillow", "received and decoded", "gateway"]
    head += ["received, of Pillow", "gateway, of Pillow", "gateway, of received"]
    head += [
        "CPU ms: Pillow",
        "received and decoded",
        "front",
        "Pillow's CPU, of the front's (minima)",
        "received, of it",
    ]
    print(f"{options.in_flight} in flight, {len(os.sched_getaffinity(0))} cores for everything, {rounds} rounds\n")
    print(table(head, rows))


if __name__ == "__main__":
    main()
