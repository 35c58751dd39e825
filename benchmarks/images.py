"""Images as bodies: how many a gateway decodes per second, against Pillow alone on all cores, and at what CPU time.

    python -m benchmarks.images [--short] [--in-flight 16]

JPEG and PNG of several sizes are scaled to 224x224 for an ONNX model that only averages them. All processes may use
all cores, as may the references, which take turns with the gateway:

    Pillow           a pool of threads that decodes and scales; no server (references/pillow.py)
    received         a server that receives images, does the same with them, and nothing else
                     (references/receive_and_decode.py)
    handed over      a server that also writes the values for another process, which averages them
                     (references/decode_and_hand_over.py)

The first table compares images per second, the second CPU time per image: of Pillow, of everything that runs for one of
the servers including its clients, and of each part of the gateway.
"""

import argparse
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks import h2load, models
from benchmarks.h2load import Load
from benchmarks.memory import processes
from benchmarks.report import ratio, table
from benchmarks.servers import ROOT, cpu_seconds, gateway, reference

_SIDE = 224
_PILLOW, _CLIENT = "Pillow", "load generator"
_RATIOS = (
    ("received", _PILLOW),
    ("handed over", _PILLOW),
    ("gateway", _PILLOW),
    ("gateway", "received"),
    ("gateway", "handed over"),
)
_PARTS = (_CLIENT, "front's loop", "front's threads", "worker", "other processes")
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
    parser.add_argument("--short", action="store_true", help="rounds of 0.3 s instead of 1 s")
    parser.add_argument("--in-flight", type=int, default=16)
    options = parser.parse_args()
    rounds, seconds = 15, 0.3 if options.short else 1.0
    rates, costs = [], []
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder = Path(made)
        models.channel_means(folder / "models" / "means" / "1" / "model.onnx", _SIDE)
        (folder / "models" / "means" / "model.toml").write_text(f"[preprocess]\nsize = [{_SIDE}, {_SIDE}]\n")
        cores = os.sched_getaffinity(0)
        references = {"received": "receive_and_decode", "handed over": "decode_and_hand_over"}
        servers = {}
        for name, module in references.items():
            process = stack.enter_context(reference(module, str(_SIDE), cores=cores))
            servers[name] = Server(process.ports["port"], {each.pid: name for each in process.tree()})
        ours = stack.enter_context(gateway(folder / "models", models=["means"], cores=cores))
        servers["gateway"] = Server(ours.ports["http"], processes(ours))
        for width, height, kind in _IMAGES:
            path = folder / f"{width}.{kind}"
            path.write_bytes(photo(width, height, kind))
            label = f"{width}x{height} {kind}, {path.stat().st_size // 1000} kB"
            measured = _measure(path, f"image/{kind.lower()}", servers, rounds, seconds, options.in_flight)
            rates.append([label, *_rates(measured)])
            costs.append([label, *_costs(measured)])
    print(f"{options.in_flight} in flight, {len(cores)} cores for everything, {rounds} rounds\n")
    print(table(["image", f"images/s: {_PILLOW}", *servers, *[f"{a}, of {b}" for a, b in _RATIOS]], rates))
    print("\nCPU ms per image, minima\n")
    print(table(["image", _PILLOW, *[f"{name} (all)" for name in servers], *_PARTS], costs))


class Server(NamedTuple):
    """processes: pid → name"""

    port: int
    processes: dict[int, str]


class Measured(NamedTuple):
    """Of each contender, the images per second and the CPU ms per image of each round; of servers, by part."""

    rates: dict[str, list[float]]
    costs: dict[str, list[dict[str, float]]]


def _measure(
    path: Path, content_type: str, servers: dict[str, Server], rounds: int, seconds: float, in_flight: int
) -> Measured:
    measured = Measured(defaultdict(list), defaultdict(list))
    loads = {
        name: Load(f"http://127.0.0.1:{server.port}/predict/means", path.read_bytes(), {"content-type": content_type})
        for name, server in servers.items()
    }
    with pillow(path) as alone:
        alone.seconds(8)
        for load in loads.values():
            h2load.run(load, 4 * in_flight, in_flight)
        count = max(int(seconds * 8 / alone.seconds(8)[1]), 2 * in_flight)
        for _ in range(rounds):
            cpu, clock = alone.seconds(count)
            measured.rates[_PILLOW].append(count / clock)
            measured.costs[_PILLOW].append({_PILLOW: cpu / count * 1e3})
            for name, load in loads.items():
                before = _cpu(servers[name])
                run = h2load.run(load, count, in_flight)
                measured.rates[name].append(count / run.seconds)
                after = _cpu(servers[name])
                measured.costs[name].append({part: (after[part] - before[part]) / count * 1e3 for part in after})
    return measured


def _cpu(server: Server) -> dict[str, float]:
    """Return the CPU seconds so far, by part: of the load generator, which has ended, and of the server."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    parts = dict.fromkeys(_PARTS, 0.0)
    parts[_CLIENT] = used.ru_utime + used.ru_stime
    for pid, name in server.processes.items():
        seconds = cpu_seconds(pid)
        if name.startswith("front-"):
            loop = cpu_seconds(pid, threads=[pid])
            parts["front's loop"] += loop
            parts["front's threads"] += seconds - loop
        else:
            parts["worker" if name.startswith("worker-") else "other processes"] += seconds
    return parts


def _rates(measured: Measured) -> list[str]:
    every = measured.rates
    return [
        *[f"{statistics.median(rates):.0f}" for rates in every.values()],
        *[ratio(every[ours], every[theirs]) for ours, theirs in _RATIOS],
    ]


def _costs(measured: Measured) -> list[str]:
    totals = [min(sum(parts.values()) for parts in rounds) for rounds in measured.costs.values()]
    parts = [min(each[part] for each in measured.costs["gateway"]) for part in _PARTS]
    return [f"{value:.2f}" for value in [*totals, *parts]]


if __name__ == "__main__":
    main()
