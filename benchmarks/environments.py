"""The runtimes' environments, as the gateway builds them. Bare frameworks are also measured in them."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import ROOT, first_core, on_cores
from gateway.config import home
from gateway.environments.environment import build, locate
from gateway.environments.runtime import discover


def python_of(name: str) -> Path:
    """Return the interpreter of the runtime's environment, which is built if necessary."""
    environment = locate(discover()[name], "cpu", home())
    if not environment.ready:
        asyncio.run(build(environment, lambda line: print(f"{name}: {line}", file=sys.stderr)))
    return environment.python


class Bare:
    """A running benchmarks/references/bare.py."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def seconds(self, rows: int, times: int) -> tuple[float, float]:
        """Return the CPU seconds and the elapsed seconds of this many calls with this many rows."""
        return self.ask(rows, times)

    def ask(self, *numbers: int) -> tuple[float, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*numbers, file=self._process.stdin, flush=True)
        cpu, clock = self._process.stdout.readline().split()
        return float(cpu), float(clock)


@contextmanager
def bare(name: str, artifact: Path, shape: Sequence[int] = (), cores: set[int] | None = None) -> Iterator[Bare]:
    """Run the bare framework with this artifact on one thread. shape: the shape of a row, by default 3x224x224."""
    with _running("bare", name, [name, str(artifact), *map(str, shape)], cores) as process:
        yield Bare(process)


@contextmanager
def chain(artifacts: Sequence[Path], shape: Sequence[int], cores: set[int] | None = None) -> Iterator[Bare]:
    """Run benchmarks/references/step_chain.py. `ask` takes a number of requests. shape: of the first input."""
    with _running("step_chain", "onnx", ["x".join(map(str, shape)), *map(str, artifacts)], cores) as process:
        yield Bare(process)


@contextmanager
def _running(
    script: str, name: str, arguments: Sequence[str], cores: set[int] | None
) -> "Iterator[subprocess.Popen[str]]":
    """Run a script of references/ in the environment of a runtime, on one thread."""
    command = [str(python_of(name)), str(ROOT / "benchmarks" / "references" / f"{script}.py"), *arguments]
    variables = {"OMP_NUM_THREADS": "1", **discover()[name].env}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={key: value.replace("{threads}", "1") for key, value in variables.items()},
        preexec_fn=on_cores(cores or first_core()),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
