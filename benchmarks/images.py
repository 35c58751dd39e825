"""Images as bodies: how many the front decodes per second, against Pillow alone on all cores.

    python -m benchmarks.images [--short] [--in-flight 16]

JPEG and PNG of several sizes are scaled to 224x224 for an ONNX model that only averages them. All processes may use
all cores, as may the reference, a pool of threads in which Pillow decodes and scales (references/pillow.py). Contenders
take turns. The CPU time per image is compared as well: of the front with all that it does for a request, and of Pillow.
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
from benchmarks.servers import ROOT, cpu_seconds, gateway

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
        server = stack.enter_context(gateway(folder / "models", models=["means"], cores=os.sched_getaffinity(0)))
        (front,) = pids(server, "front-")
        for width, height, kind in _IMAGES:
            path = folder / f"{width}.{kind}"
            path.write_bytes(photo(width, height, kind))
            headers = {"content-type": f"image/{kind.lower()}"}
            load = Load(f"http://127.0.0.1:{server.ports['http']}/predict/means", path.read_bytes(), headers)
            with pillow(path) as alone:
                alone.seconds(8)
                h2load.run(load, 4 * options.in_flight, options.in_flight)
                count = max(int(seconds * 8 / alone.seconds(8)[1]), 2 * options.in_flight)
                measured: dict[str, list[float]] = {name: [] for name in ("ours", "theirs", "cpu", "their cpu")}
                for _ in range(rounds):
                    cpu, clock = alone.seconds(count)
                    measured["theirs"].append(count / clock)
                    measured["their cpu"].append(cpu / count * 1e3)
                    before = cpu_seconds(front)
                    run = h2load.run(load, count, options.in_flight)
                    measured["ours"].append(count / run.seconds)
                    measured["cpu"].append((cpu_seconds(front) - before) / count * 1e3)
            rows.append(
                [
                    f"{width}x{height} {kind}, {path.stat().st_size // 1000} kB",
                    f"{statistics.median(measured['theirs']):.0f}",
                    f"{statistics.median(measured['ours']):.0f}",
                    ratio(measured["ours"], measured["theirs"]),
                    median_and_spread(measured["their cpu"], 2),
                    median_and_spread(measured["cpu"], 2),
                    f"{min(measured['their cpu']) / min(measured['cpu']):.2f}",
                ]
            )
    head = ["image", "Pillow: images/s", "gateway: images/s", "of Pillow", "Pillow: CPU ms"]
    print(f"{options.in_flight} in flight, {len(os.sched_getaffinity(0))} cores for everything, {rounds} rounds\n")
    print(table([*head, "front: CPU ms", "Pillow's CPU, of the front's (minima)"], rows))


if __name__ == "__main__":
    main()
