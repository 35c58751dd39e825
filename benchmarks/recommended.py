"""Models served with what `modelport profile` recommends, against the same models with the defaults.

    python -m benchmarks.recommended [--rounds 5] [--seconds 2] [--only NAMES] [--short]

Each model is profiled, and then served by two gateways, one of which has the recommended model.toml. Both are up at the
same time and take turns under the same closed loop, each on all cores. Without a target, the recommendation is for
throughput; with one, the p99 of the clients should stay below it as well.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import h2load, models, requests
from benchmarks.h2load import Load
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.scale_instances import fake_runtime
from benchmarks.servers import ROOT, gateway
from tests.support.model_repositories import add_fake

_HEAD = (
    "model", "max_batch_size, threads, instances, queue_delay_ms", "requests/s by default", "recommended, of that",
    "of maxima", "p99 ms by default", "recommended",
)  # fmt: skip
_KEYS = ("max_batch_size", "threads", "instances", "queue_delay_ms")


class Measured(NamedTuple):
    """make: writes it into a repository. row: one request. target_ms: 0 for none. load: the request's dialect."""

    name: str
    about: str
    make: Callable[[Path], object]
    row: np.ndarray
    in_flight: int
    target_ms: float = 0.0
    load: Callable[[int, str, np.ndarray], Load] = requests.v2_binary


def _onnx(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def write(repository: Path) -> None:
        (repository / "m" / "1").mkdir(parents=True)
        make(repository / "m" / "1" / "model.onnx")

    return write


def _sleeping(per_batch: float, per_row: float) -> Callable[[Path], object]:
    return lambda repository: add_fake(repository, "m", seconds_per_batch=per_batch, seconds_per_row=per_row)


_ROW = np.ones((1, 4), np.float32)
_MODELS = (
    Measured("tiny", "ONNX, 16 → 32 → 4", _onnx(models.tiny_mlp), np.ones((1, 16), np.float32), 32),
    Measured(
        "convolutions", "ONNX, 5 ms of arithmetic per row", _onnx(models.convolutions),
        np.ones((1, 1, 8, 8), np.float32), 32,
    ),
    Measured(
        "resnet", "ONNX, ResNet-18 of a quarter of its width", _onnx(lambda path: models.residual_network(path, 16)),
        np.ones((1, 3, 224, 224), np.float32), 8,
    ),
    Measured(
        "digits_cntk", "CNTK, 8x8 images of digits, as JSON",
        lambda repository: shutil.copytree(ROOT / "model_repo" / "digits_cntk", repository / "m"),
        np.ones((1, 64), np.float32), 32, load=requests.predict_json,
    ),
    Measured("affine", "waits 10 ms per batch and 1 ms per row", _sleeping(0.01, 0.001), _ROW, 32),
    Measured("flat", "waits 10 ms per batch; target 100 ms", _sleeping(0.01, 0.0), _ROW, 32, 100.0),
    Measured("late", "waits 2 ms per batch and 1 ms per row; target 50 ms", _sleeping(0.002, 0.001), _ROW, 48, 50.0),
)  # fmt: skip


def _recommend(repository: Path, model: Measured, seconds: float) -> dict[str, float]:
    """Profile the model and change its model.toml. Returns the recommended values."""
    out = repository.parent / f"profile-{model.name}"
    command = [
        sys.executable, "-m", "gateway", "profile", "m", "--repository", str(repository), "--output", str(out),
        "--seconds", str(seconds), "--python", f"fake={sys.executable}", "--apply",
        "--latency-target-ms", str(model.target_ms),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    toml = tomllib.loads((repository / "m" / "model.toml").read_text())
    return {key: toml[key] for key in _KEYS}


def _compare(model: Measured, folder: Path, rounds: int, seconds: float) -> list[str]:
    plain, tuned = folder / model.name / "plain", folder / model.name / "tuned"
    model.make(plain)
    shutil.copytree(plain, tuned)
    values = _recommend(tuned, model, seconds / 4)
    runs: list[list[h2load.Run]] = [[], []]
    with ExitStack() as stack:
        loads = []
        for repository in (plain, tuned):
            python = ("--python", f"fake={sys.executable}")
            server = stack.enter_context(gateway(repository, *python, models=["m"], cores=os.sched_getaffinity(0)))
            loads.append(model.load(server.ports["http"], "m", model.row))
        for number in range(rounds):
            for contender in (0, 1) if number % 2 else (1, 0):
                runs[contender].append(_run(loads[contender], model.in_flight, seconds))
    default, recommended = ([run.count / run.seconds for run in each] for each in runs)
    p99 = [median_and_spread([run.percentile(99) * 1e3 for run in each]) for each in runs]
    best = f"{max(recommended) / max(default):.2f}"
    settings = ", ".join(f"{values[key]:g}" for key in _KEYS)
    rate = f"{statistics.median(default):.0f}"
    return [f"{model.name}: {model.about}", settings, rate, ratio(recommended, default), best, *p99]


def _run(load: Load, in_flight: int, seconds: float) -> h2load.Run:
    """Send requests for about this long, after a few to find out how many these are."""
    few = h2load.run(load, 4 * in_flight, in_flight)
    return h2load.run(load, max(int(few.count / few.seconds * seconds), 4 * in_flight), in_flight)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round and contender")
    parser.add_argument("--only", default="", help="names of models, separated by commas")
    parser.add_argument("--short", action="store_true", help="3 rounds of 1 s")
    options = parser.parse_args()
    rounds, seconds = (3, 1.0) if options.short else (options.rounds, options.seconds)
    chosen = [model for model in _MODELS if not options.only or model.name in options.only.split(",")]
    with tempfile.TemporaryDirectory() as scratch, fake_runtime(Path(scratch)):
        rows = []
        for model in chosen:
            rows.append(_compare(model, Path(scratch), rounds, seconds))
            print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    print(table(_HEAD, rows))


if __name__ == "__main__":
    main()
