"""The CPU time of large binary inputs, process by process: the two rows of the target for one request in flight.

    python -m benchmarks.large_inputs [--rounds 16] [--width 40] [--old CHECKOUT]

It runs only those contenders of benchmarks.payload that these rows need: the gateway, the framework alone, and the two
servers that do nothing else. `--old` adds the gateway of another checkout, with modelport installed in its .venv, as a
contender of the same rounds. What each process takes is the least of all rounds, because others on the machine only
add time; so the parts of a server need not add up to its sum, which is that of one round.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import h2load, models, requests
from benchmarks.environments import Bare, bare
from benchmarks.h2load import Load
from benchmarks.payload import FLOORS, IMAGE, LARGE_ROWS
from benchmarks.report import table
from benchmarks.servers import Server, cpu_seconds, gateway, reference

# By the name of a row: rows of the input, and requests per round.
_INPUTS = {"602 kB": (1, 30), "16 MB": (LARGE_ROWS, 3)}
_ROLES = {"gateway.front.process": "front", "runtimes/worker": "worker", "gateway serve": "supervisor"}

# Returns the CPU milliseconds per request of each process, and of "all".
Measure = Callable[[str], dict[str, float]]


def _role(command: str, number: int) -> str:
    """Return what a process does. number: of the process in its tree."""
    return next((role for part, role in _ROLES.items() if part in command), ("receiver", "runner")[min(number, 1)])


def through(server: Server, loads: dict[str, Load]) -> Measure:
    roles = {process.pid: _role(" ".join(process.cmdline()), at) for at, process in enumerate(server.tree())}

    def measure(name: str) -> dict[str, float]:
        count, found = _INPUTS[name][1], defaultdict[str, float](float)
        before = {pid: cpu_seconds(pid) for pid in roles}
        h2load.run(loads[name], count, 1)
        for pid, role in roles.items():
            for each in (role, "all"):
                found[each] += (cpu_seconds(pid) - before[pid]) / count * 1e3
        return found

    return measure


def alone(framework: Bare) -> Measure:
    def measure(name: str) -> dict[str, float]:
        rows, count = _INPUTS[name]
        return {"all": framework.seconds(rows, count)[0] / count * 1e3}

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--width", type=int, default=40, help="channels of the first stage; ResNet-18 has 64")
    parser.add_argument("--old", type=Path, help="another checkout")
    options = parser.parse_args()
    bodies = {name: np.repeat(IMAGE, rows, axis=0) for name, (rows, _) in _INPUTS.items()}
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        path = Path(made, "onnx", "1", "model.onnx")
        path.parent.mkdir(parents=True)
        models.residual_network(path, options.width)
        contenders = {"framework alone": alone(stack.enter_context(bare("onnx", path)))}
        loads: dict[str, Load] = {}
        for name, checkout in {"gateway": None, "old gateway": options.old}.items():
            if name == "gateway" or checkout is not None:
                server = stack.enter_context(gateway(Path(made), models=["onnx"], checkout=checkout))
                port = server.ports["http"]
                loads = {each: requests.v2_binary(port, "onnx", body) for each, body in bodies.items()}
                contenders[name] = through(server, loads)
        for name, program in FLOORS.items():
            server = stack.enter_context(reference(program, str(path)))
            url = f"http://127.0.0.1:{server.ports['port']}/"
            there = {each: Load(url, load.body, load.headers) for each, load in loads.items()}
            contenders[name] = through(server, there)
        for size in _INPUTS:
            found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
            for number in range(options.rounds + 1):
                for name, measure in contenders.items():
                    found[name] += [measure(size)][not number :]  # the first is a warm-up
            _print(f"{size}, {options.rounds} rounds of {_INPUTS[size][1]}, width {options.width}", found)


def _print(title: str, found: dict[str, list[dict[str, float]]]) -> None:
    base, rows = min(each["all"] for each in found["framework alone"]), []
    for name, rounds in found.items():
        least = {role: min(each[role] for each in rounds) for role in sorted(rounds[0])}
        total = least.pop("all")
        parts = ", ".join(f"{role} {value:.3f}" for role, value in least.items())
        rows.append([name, f"{total:.3f}", f"{total / base:.3f}", parts])
    head = ["", "CPU ms per request, minimum", "relative to the framework alone", "of each process, minima"]
    print(f"{title}\n\n{table(head, rows)}\n", flush=True)


if __name__ == "__main__":
    main()
