"""How long a model takes to load: its worker a spare, a copy of a process that has imported the framework, a program.

    python -m benchmarks.cold_load [--short] [--only MODEL]

Beside both: the framework's own load and first run, in an interpreter that has imported it already. Times are from the
start of a worker until it is ready, with its box and warm-up. Contenders take turns, one load each. A spare is a copy
that was made after the load before.
"""

import argparse
import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from benchmarks import models
from benchmarks.report import median_and_spread, ratio, table
from gateway.config import home
from gateway.domain.default_limits import MAX_RESPONSE_BYTES
from gateway.environments.builder import Builder
from gateway.environments.runtime import discover
from gateway.lifecycle.launch import Launch, plan_launch
from gateway.lifecycle.sandbox import SandboxPolicy, plan_box
from gateway.lifecycle.worker_process import WorkerProcess
from gateway.lifecycle.zygotes import Zygotes
from gateway.repository.scan import scan
from runtimes.control import Ready

_ROOT = Path(__file__).parent.parent
_MAX_RATIO = 3.0
_SPARE_S = 60.0
# model → what loads and runs it, given `path`.
_BARE = {
    "tiny": "s = ort.InferenceSession(path); s.run(None, {'x': np.zeros((1, 16), np.float32)})",
    "resnet18": "s = ort.InferenceSession(path); s.run(None, {'x': np.zeros((1, 3, 224, 224), np.float32)})",
    "digits_torchscript": "torch.jit.load(path)(torch.zeros(1, 64))",
    "digits_savedmodel": (
        "f = tf.saved_model.load(path).signatures['serving_default']; "
        "f(**{name: tf.zeros([1, *spec.shape[1:]]) for name, spec in f.structured_input_signature[1].items()})"
    ),
}
_IMPORTS = {
    "tiny": "import numpy as np, onnxruntime as ort",
    "resnet18": "import numpy as np, onnxruntime as ort",
    "digits_torchscript": "import torch",
    "digits_savedmodel": "import tensorflow as tf",
}
_LOOP = """
import sys, time
path = sys.argv[1]
print("ready", flush=True)
for _ in sys.stdin:
    began = time.perf_counter()
    {code}
    print(time.perf_counter() - began, flush=True)
"""


@dataclass(frozen=True)
class Times:
    """Seconds of each round."""

    bare: list[float]
    untried: list[float]
    copied: list[float]
    spare: list[float]
    program: list[float]


@contextmanager
def _bare(launch: Launch) -> Iterator["subprocess.Popen[str]"]:
    """An interpreter that loads and runs the model, and prints the seconds, for each line that it gets."""
    code = _IMPORTS[launch.model] + _LOOP.format(code=_BARE[launch.model])
    command = [str(launch.python), "-I", "-u", "-c", code, launch.load.artifact]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def _ask(process: "subprocess.Popen[str]") -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    print(file=process.stdin, flush=True)
    return float(process.stdout.readline())


async def _load_s(launch: Launch, run_dir: Path) -> float:
    """Return the seconds from the start of a worker until it is ready. It is stopped then."""
    ready = asyncio.Event()

    async def check(loaded: Ready) -> str:
        return ""

    began = time.perf_counter()
    worker = WorkerProcess(launch, run_dir, ready.set, check)
    living = asyncio.create_task(worker.run())
    await ready.wait()
    took = time.perf_counter() - began
    if worker.ready is None:
        raise RuntimeError(worker.describe_end())
    worker.kill()
    await living
    return took


async def _until_spare(zygotes: Zygotes) -> None:
    async with asyncio.timeout(_SPARE_S):
        while not any(name.endswith("spare") for name in zygotes.named()):  # noqa: ASYNC110 - a process that starts
            await asyncio.sleep(0.01)


async def _measure(launch: Launch, zygotes: Zygotes, run_dir: Path, rounds: int) -> Times:
    times = Times([], [], [], [], [])
    batching = launch.load.batching._replace(trial=False)
    untried, program = replace(launch, load=launch.load._replace(batching=batching)), replace(launch, zygotes=None)
    tried = replace(launch, spare=True)  # so there is one for the next
    with _bare(launch) as bare:
        for number in range(rounds + 1):
            taken = [_ask(bare)]
            taken += [await _load_s(untried, run_dir), await _load_s(tried, run_dir)]
            await _until_spare(zygotes)
            taken += [await _load_s(untried, run_dir), await _load_s(program, run_dir)]
            if number:  # the first round imports the framework, and fills the page cache
                for every, seconds in zip((getattr(times, each.name) for each in fields(times)), taken, strict=True):
                    every.append(seconds)
    return times


async def _launches(repository: Path, zygotes: Zygotes) -> list[Launch]:
    runtimes = discover()
    builder = Builder(home(), "cpu", {}, frozenset(), lambda: None)
    launches = []
    try:
        for config in scan(repository, runtimes):
            if config.name not in _BARE:
                continue
            assert config.artifact is not None
            environment = await builder.environment(config.artifact.runtime)
            box = plan_box(config, config.artifact.runtime.folder, SandboxPolicy())
            launches.append(plan_launch(config, environment, "cpu", 1, MAX_RESPONSE_BYTES, box=box, zygotes=zygotes))
    finally:
        await builder.close()
    return launches


async def _all(rounds: int, only: str) -> None:
    rows = []
    with tempfile.TemporaryDirectory(prefix="modelport-") as folder:
        models.tiny_mlp(Path(folder, "repository", "tiny", "1", "model.onnx"))
        models.residual_network(Path(folder, "repository", "resnet18", "1", "model.onnx"))
        run_dir = Path(tempfile.mkdtemp(dir=folder))
        zygotes = Zygotes(run_dir)
        try:
            for repository in (Path(folder, "repository"), _ROOT / "model_repo"):
                for launch in await _launches(repository, zygotes):
                    if only and launch.model != only:
                        continue
                    rows.append(_row(launch.model, await _measure(launch, zygotes, run_dir, rounds)))
        finally:
            await zygotes.close()
    head = ["ms", "bare", "spare", "of bare", "p99 of bare", "copy", "copy, trial", "program", "of copy"]
    print(f"medians of {rounds} rounds; p99 is the slowest of a hundred; spare and copy without a trial\n")
    print(table(head, rows))


def _row(model: str, times: Times) -> list[str]:
    p99 = sorted(times.spare)[int(len(times.spare) * 0.99)] / statistics.median(times.bare)
    return [
        model,
        _ms(times.bare),
        _ms(times.spare),
        ratio(times.spare, times.bare),
        f"{p99:.1f}, at most {_MAX_RATIO:g}: {'met' if p99 <= _MAX_RATIO else 'missed'}",
        _ms(times.untried),
        _ms(times.copied),
        _ms(times.program),
        ratio(times.program, times.copied),
    ]


def _ms(seconds: Sequence[float]) -> str:
    return median_and_spread([each * 1e3 for each in seconds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="10 rounds instead of 100")
    parser.add_argument("--only", choices=_BARE, default="")
    arguments = parser.parse_args()
    asyncio.run(_all(10 if arguments.short else 100, arguments.only))


if __name__ == "__main__":
    main()
