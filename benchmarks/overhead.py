"""The cost of a request apart from the model: CPU time of all server processes, by protocol, against other servers.

    python -m benchmarks.overhead [--short] [--in-flight 32 ...] [--only PATTERN] [--processes]

A tiny model (16 → 32 → 4, ONNX) with one row per request. All servers are pinned to the first core, and the load
generator to the others. Servers take turns, round by round, so that a machine that slows down slows all of them;
ratios are those of neighbors in one round. One answer of each server is checked before the measurement. With
`--processes`, the CPU time is also given for each process, with the kernel's share and the context switches.
"""

import argparse
import multiprocessing
import re
import statistics
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks import h2load, models, process_costs, requests
from benchmarks.h2load import Load
from benchmarks.references.serve import session
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import Server, gateway, reference, tritonserver

ROW = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16)
# The servers with which each protocol of modelport is compared.
AGAINST = {
    "modelport JSON": ["FastAPI JSON", "FastAPI JSON, def", "mosec JSON", "Triton JSON"],
    "modelport v2 JSON": ["sketch JSON", "old JSON", "FastAPI JSON", "FastAPI JSON, def", "mosec JSON", "Triton JSON"],
    "modelport binary": ["sketch binary", "old binary", "FastAPI raw", "Triton binary"],
    "modelport gRPC": ["sketch gRPC", "old gRPC", "grpc.aio echo", "Triton gRPC"],
}


@dataclass
class Contender:
    server: Server
    load: Load
    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    processes: list[process_costs.PerRequest] = field(default_factory=list)

    def measure(self, seconds: float, in_flight: int) -> None:
        calibrated = h2load.run(self.load, 40 * in_flight, in_flight)
        count = max(int(calibrated.count / calibrated.seconds * seconds), 100)
        before = process_costs.costs(self.server)
        run = h2load.run(self.load, count, in_flight)
        after = process_costs.costs(self.server)
        spent = {role: cost.since(before[role]) for role, cost in after.items() if role in before}
        self.processes.append(process_costs.PerRequest(spent, count))
        self.cpu_us.append(sum(cost.cpu for cost in spent.values()) / count * 1e6)
        self.rates.append(count / run.seconds)
        self.p50_us.append(run.percentile(50) * 1e6)
        self.p99_us.append(run.percentile(99) * 1e6)


def contenders(
    folder: Path, stack: ExitStack, wanted: Callable[[str], bool], options: argparse.Namespace
) -> dict[str, Contender]:
    """Start the servers, and check one answer of each.

    options: with `old`, another checkout, and with `triton` and `mosec`, interpreters that have these; or "".
    """

    def any_wanted(server: str) -> bool:
        return any(wanted(f"{server} {dialect}") for dialect in ("JSON", "binary", "gRPC"))

    artifact = folder / "tiny" / "1" / "model.onnx"
    models.tiny_mlp(artifact)
    (expected,) = session(str(artifact)).run(None, {"x": ROW})
    ours = stack.enter_context(gateway(folder, models=["tiny"]))
    http, grpc = ours.ports["http"], ours.ports["grpc"]
    found = {
        "modelport JSON": Contender(ours, requests.predict_json(http, "tiny", ROW)),
        "modelport v2 JSON": Contender(ours, requests.v2_json(http, "tiny", ROW)),
        "modelport binary": Contender(ours, requests.v2_binary(http, "tiny", ROW)),
        "modelport gRPC": Contender(ours, requests.v2_grpc(grpc, "tiny", ROW)),
    }
    if wanted("FastAPI JSON"):
        by_hand = stack.enter_context(reference("fastapi_json", str(artifact)))
        load = requests.predict_json(by_hand.ports["port"], "", ROW)
        found["FastAPI JSON"] = Contender(by_hand, Load(load.url.rstrip("/"), load.body, load.headers))
        threads = load.url.replace("/predict/", "/threads")
        found["FastAPI JSON, def"] = Contender(by_hand, Load(threads, load.body, load.headers))
    if wanted("FastAPI raw"):
        raw = stack.enter_context(reference("fastapi_raw", str(artifact)))
        found["FastAPI raw"] = Contender(raw, Load(f"http://127.0.0.1:{raw.ports['port']}/predict", ROW.tobytes()))
    if wanted("grpc.aio echo"):
        echo = stack.enter_context(reference("grpc_echo"))
        found["grpc.aio echo"] = Contender(echo, requests.v2_grpc(echo.ports["port"], "tiny", ROW))
    if any_wanted("sketch"):
        sketch = stack.enter_context(reference("sketch", str(artifact), ports=("grpc", "port")))
        found["sketch JSON"] = Contender(sketch, requests.v2_json(sketch.ports["port"], "tiny", ROW))
        found["sketch binary"] = Contender(sketch, requests.v2_binary(sketch.ports["port"], "tiny", ROW))
        found["sketch gRPC"] = Contender(sketch, requests.v2_grpc(sketch.ports["grpc"], "tiny", ROW))
    if options.old and any_wanted("old"):
        old = stack.enter_context(gateway(folder, models=["tiny"], checkout=Path(options.old)))
        found["old JSON"] = Contender(old, requests.v2_json(old.ports["http"], "tiny", ROW))
        found["old binary"] = Contender(old, requests.v2_binary(old.ports["http"], "tiny", ROW))
        found["old gRPC"] = Contender(old, requests.v2_grpc(old.ports["grpc"], "tiny", ROW))
    if options.mosec and wanted("mosec JSON"):
        mosec = started(stack, "mosec", reference("mosec_server", str(artifact), python=options.mosec))
        if mosec:
            load = requests.predict_json(mosec.ports["port"], "", ROW)
            url = load.url.replace("/predict/", "/inference")
            found["mosec JSON"] = Contender(mosec, Load(url, load.body, load.headers))
    if options.triton and any_wanted("Triton"):
        triton = started(stack, "tritonserver", tritonserver(options.triton, artifact))
        if triton:
            found["Triton JSON"] = Contender(triton, requests.v2_json(triton.ports["http"], "tiny", ROW))
            found["Triton binary"] = Contender(triton, requests.v2_binary(triton.ports["http"], "tiny", ROW))
            found["Triton gRPC"] = Contender(triton, requests.v2_grpc(triton.ports["grpc"], "tiny", ROW))
    found = {name: contender for name, contender in found.items() if wanted(name)}
    for name, contender in found.items():
        if name != "grpc.aio echo":
            requests.check(contender.load, expected)
    return found


def started(stack: ExitStack, name: str, server: AbstractContextManager[Server]) -> Server | None:
    """Return the server, or None with a sentence on why it is left out. For servers that not every machine can run."""
    try:
        return stack.enter_context(server)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        missing = "" if has_shared_memory() else "; it needs POSIX shared memory, which this machine lacks"
        print(f"{name} is left out, because it does not start: {reason}{missing}\n")
        return None


def has_shared_memory() -> bool:
    try:
        multiprocessing.Lock()
    except OSError:
        return False
    return True


def add_servers(parser: argparse.ArgumentParser) -> None:
    """Add the options that `contenders` reads."""
    parser.add_argument("--triton", default="", metavar="PYTHON", help="also measure a tritonserver: see references/")
    parser.add_argument("--mosec", default="", metavar="PYTHON", help="also measure mosec: see references/")
    parser.add_argument("--old", default="", metavar="CHECKOUT", help="also measure another checkout, with its .venv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="7 rounds of 0.5 s instead of 25 of 1 s")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[32])
    parser.add_argument("--processes", action="store_true", help="also what each process of a server costs")
    parser.add_argument("--only", default="", metavar="PATTERN", help="the contenders whose names match")
    add_servers(parser)
    options = parser.parse_args()
    # Many short rounds rather than a few long ones, so that noise on a shared machine affects all contenders alike.
    rounds, seconds = (7, 0.5) if options.short else (25, 1.0)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        every = contenders(Path(folder), stack, lambda name: bool(re.search(options.only, name)), options)
        for in_flight in options.in_flight:
            measured = {name: Contender(each.server, each.load) for name, each in every.items()}
            for _ in range(rounds):
                for contender in measured.values():
                    contender.measure(seconds, in_flight)
            print(f"{in_flight} in flight, one core for the servers, {rounds} rounds of {seconds:g} s\n")
            _report(measured, options.processes)


def _report(every: dict[str, Contender], processes: bool) -> None:
    rows = []
    for name, each in every.items():
        tail = [p99 / p50 for p99, p50 in zip(each.p99_us, each.p50_us, strict=True)]
        rate, p50 = statistics.median(each.rates), statistics.median(each.p50_us)
        rows.append([name, median_and_spread(each.cpu_us), f"{rate:.0f}", f"{p50:.0f}", median_and_spread(tail, 2)])
    print(table(["", "CPU µs", "requests/s", "p50 µs", "p99 / p50"], rows) + "\n")
    if processes:
        rows = [[name, *row] for name, each in every.items() for row in process_costs.summary(each.processes)]
        head = ["", "process", "CPU µs", "minimum", "of it in the kernel", "context switches per request"]
        print(table(head, rows) + "\n")
    rows = []
    for name, others in AGAINST.items():
        for other in others:
            if name in every and other in every:
                ours, theirs = every[name], every[other]
                ratios = ratio(ours.cpu_us, theirs.cpu_us), ratio(ours.p50_us, theirs.p50_us)
                # Noise on a shared machine only adds time, so the minima are closest to the true costs.
                rows.append([name, other, *ratios, f"{min(ours.cpu_us) / min(theirs.cpu_us):.2f}"])
    print(table(["", "compared with", "CPU", "p50", "minimum CPU of each"], rows) + "\n")


if __name__ == "__main__":
    main()
