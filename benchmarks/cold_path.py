"""Where the time of a cold request goes: CPU time of each process, and the time from the request to its answer.

    python -m benchmarks.cold_path [--models 300] [--requests 100] [--room 50] [--pause 0.2] [--old CHECKOUT]

Tiny ONNX models on demand, with a memory limit that none reaches unless --room is set. One client sends one request to
each, one after the other, so each loads a model. The CPU time of a request is that of the supervisor, of the front, of
the process that workers are copies of, and of the workers, until its answer has come. The pause after it is for the
spare, whose CPU time has a column of its own. With --old, the gateway of another checkout takes turns with this one,
each with a block of requests.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.many_models import Client, limit_for, make
from benchmarks.report import table
from benchmarks.servers import ROOT, Server, cpu_seconds, first_core, gateway, other_cores

_BLOCK = 10
_PARTS = ("supervisor", "front", "zygote", "worker")


class Contender:
    """A gateway, and the milliseconds of each request: in all, and of CPU time by process."""

    def __init__(self, name: str, server: Server) -> None:
        self.name, self.server, self.client = name, server, Client(server)
        self.wall: list[float] = []
        self.between: list[float] = []
        self.cpu: dict[str, list[float]] = {part: [] for part in _PARTS}

    def _processes(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {"supervisor": [self.server.process.pid], "front": [], "zygote": [], "worker": []}
        for child in psutil.Process(self.server.process.pid).children():
            if any(each.endswith("worker/__main__.py") for each in child.cmdline()):
                found["worker"].append(child.pid)
            else:
                found["front"].append(child.pid)
        # Copies have the command line of the original, which is the first.
        found["worker"].sort(key=lambda pid: psutil.Process(pid).create_time())
        found["zygote"] = [found["worker"].pop(0)]
        return found

    def request(self, model: int, pause_s: float) -> None:
        before = self._spent()
        began = time.perf_counter()
        problem = self.client.infer(model)
        self.wall.append((time.perf_counter() - began) * 1e3)
        assert not problem, problem
        after = self._spent()
        for part, seconds in before.items():
            self.cpu[part].append((after[part] - seconds) * 1e3)
        time.sleep(pause_s)
        later = self._spent()
        self.between.append(sum((later[part] - after[part]) * 1e3 for part in ("zygote", "worker")))

    def _spent(self) -> dict[str, float]:
        return {part: sum(map(cpu_seconds, pids)) for part, pids in self._processes().items()}


def _row(contender: Contender) -> list[str]:
    def shown(values: Sequence[float]) -> str:
        return f"{statistics.median(values):.1f} ({min(values):.1f})"

    total = [sum(each) for each in zip(*contender.cpu.values(), strict=True)]
    ordered = sorted(contender.wall)
    p99 = ordered[int(len(ordered) * 0.99)]
    return [
        contender.name,
        shown(contender.wall),
        f"{p99:.1f}",
        *map(shown, [total, *contender.cpu.values(), contender.between]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--room", type=int, default=0, help="models that fit; 0: all")
    parser.add_argument("--pause", type=float, default=0.2, metavar="SECONDS")
    parser.add_argument("--old", type=Path, metavar="CHECKOUT")
    arguments = parser.parse_args()
    checkouts = {"this": ROOT, **({"old": arguments.old} if arguments.old else {})}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch, "repository")
        make(folder, arguments.models)
        limit = str(limit_for(folder, arguments.room)) if arguments.room else "64GiB"
        contenders = []
        for name, checkout in checkouts.items():
            cores = first_core() | other_cores()
            flags = "--load", "on_demand", "--memory-limit", limit
            server = stack.enter_context(gateway(folder, *flags, cores=cores, checkout=checkout))
            contenders.append(Contender(name, server))
        for contender in contenders:  # the first ones import the framework
            for model in range(5):
                assert not contender.client.infer(model)
        for first in range(5, 5 + arguments.requests, _BLOCK):
            for contender in contenders:
                for model in range(first, min(first + _BLOCK, 5 + arguments.requests)):
                    contender.request(model, arguments.pause)
    head = ["ms, median (minimum)", "request", "p99", "CPU", *_PARTS, "after it"]
    print(f"{arguments.requests} cold requests, {arguments.models} models, a limit of {limit}\n")
    print(table(head, [_row(each) for each in contenders]))


if __name__ == "__main__":
    main()
