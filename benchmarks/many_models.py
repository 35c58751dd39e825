"""Many models on little memory: models of which a part fits into memory, and requests that follow Zipf's law.

    python -m benchmarks.many_models [--short] [--models 1000] [--room 50] [--requests 20000] [--seconds 120]
                                     [--exponent 1.1] [--old CHECKOUT] [--triton PYTHON]

Tiny ONNX models, each with a constant of its own, by which each answer is checked. `memory_limit` is what the gateway
takes with `room` of them loaded. Several clients send one trace, for a bounded time:

- failed requests, and wrong answers
- hits: requests whose model was loaded, in parts of those of the best policy that is possible on the same trace and
  with the same room (Belady's MIN), which knows the future
- the memory of all processes (PSS), sampled, against the limit
- cold requests, one after the other, each for a model that is not loaded, against the load and first run of the same
  models in one interpreter that has imported ONNX Runtime

With --old, another checkout without models on demand gets the trace of one client from a script that loads and unloads
models by the v2 protocol, the least recently used first, so that `room` of them are loaded. With --triton, so does a
tritonserver with explicit model control (references/triton_explicit.py).
"""

import argparse
import http.client
import json
import re
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.environments import python_of
from benchmarks.eviction_policies import optimum, trace
from benchmarks.report import table
from benchmarks.servers import Server, first_core, gateway, other_cores, reference
from gateway.process.resident import process_tree, resident

_MIB = 1 << 20
_CLIENTS = 4
_TIMEOUT_S = 120.0
_SAMPLE_S = 0.5
# What the gateway keeps free of its limit.
_MARGIN_BYTES = 16 << 20
# Loads and runs each model once, and prints the seconds of each. Arguments: the artifacts.
_BARE = """
import sys, time
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
for path in sys.argv[1:]:
    began = time.perf_counter()
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.zeros((1, 1), np.float32)})
    print(time.perf_counter() - began)
"""


def make(folder: Path, models: int) -> None:
    specs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in ("x", "y")]
    for number in range(models):
        constant = numpy_helper.from_array(np.array([number], np.float32), "c")
        graph = helper.make_graph([helper.make_node("Add", ["x", "c"], ["y"])], "g", specs[:1], specs[1:], [constant])
        path = folder / f"m{number}" / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


class Client:
    """Sends requests over one connection."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=_TIMEOUT_S)

    def post(self, path: str, body: bytes = b"") -> tuple[int, bytes]:
        self._connection.request("POST", path, body)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def infer(self, model: int) -> str:
        """Return what went wrong; "" if the answer is right."""
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}
        status, body = self.post(f"/v2/models/m{model}/infer", json.dumps({"inputs": [tensor]}).encode())
        if status != 200:
            return f"{status}: {body[:200].decode()}"
        value = json.loads(body)["outputs"][0]["data"]
        return "" if value == [model + 0.5] else f"m{model} answered {value}"

    def close(self) -> None:
        self._connection.close()


@dataclass
class Run:
    """What came of a trace. sent: the models in the order of the requests. cold: of the seconds, those with a load."""

    sent: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)


def send(server: Server, requests: Sequence[int], clients: int, seconds: float) -> Run:
    run, lock, left = Run(), threading.Lock(), iter(requests)
    ends = time.monotonic() + seconds

    def work() -> None:
        client = Client(server)
        while time.monotonic() < ends:
            with lock:
                model = next(left, None)
                if model is None:
                    break
                run.sent.append(model)
            began = time.perf_counter()
            problem = client.infer(model)
            with lock:
                run.seconds.append(time.perf_counter() - began)
                if problem:
                    run.problems.append(problem)
        client.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return run


def taken(server: Server) -> int:
    return sum(resident(pid).share for pid in process_tree(server.process.pid))


@contextmanager
def watched(server: Server) -> Iterator[list[int]]:
    """Yield the bytes that all processes take, which are sampled meanwhile."""
    samples, ended = [taken(server)], threading.Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_S):
            samples.append(taken(server))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def metric(server: Server, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports['http']}/metrics", timeout=60) as answer:
        found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.M)
    assert found, name
    return float(found[1])


def on_demand(folder: Path, limit: str) -> AbstractContextManager[Server]:
    return gateway(folder, "--load", "on_demand", "--memory-limit", limit, cores=first_core() | other_cores())


def limit_for(folder: Path, room: int) -> int:
    """Return what a gateway takes with so many models loaded."""
    with on_demand(folder, "64GiB") as server:
        client = Client(server)
        for model in range(room):
            assert not client.infer(model)
        client.close()
        time.sleep(3)  # until a spare process is there, and everything was measured
        return max(taken(server), int(metric(server, "modelport_memory_bytes"))) + _MARGIN_BYTES


def bare(folder: Path, models: Sequence[int]) -> list[float]:
    artifacts = [str(folder / f"m{model}" / "1" / "model.onnx") for model in models]
    done = subprocess.run([str(python_of("onnx")), "-c", _BARE, *artifacts], check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()]


def by_script(server: Server, requests: Sequence[int], room: int, seconds: float) -> Run:
    """Load and unload models by requests, and return what came of it."""
    run, client = Run(), Client(server)
    loaded: OrderedDict[int, None] = OrderedDict()
    ends = time.monotonic() + seconds
    for model in requests:
        if time.monotonic() > ends:
            break
        began, is_cold = time.perf_counter(), model not in loaded
        if is_cold:
            if len(loaded) >= room:
                client.post(f"/v2/repository/models/m{loaded.popitem(last=False)[0]}/unload")
            status, body = client.post(f"/v2/repository/models/m{model}/load")
            if status != 200:
                run.problems.append(body.decode())
        loaded[model] = None
        loaded.move_to_end(model)
        problem = client.infer(model)
        run.sent.append(model)
        run.seconds.append(time.perf_counter() - began)
        if is_cold:
            run.cold.append(run.seconds[-1])
        if problem:
            run.problems.append(problem)
    client.close()
    return run


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def _milliseconds(values: Sequence[float]) -> list[str]:
    return [f"{percentile(values, share) * 1e3:.1f}" for share in (0.5, 0.99)]


def measure(folder: Path, arguments: argparse.Namespace, say: Callable[[str], None]) -> None:
    requests = trace(arguments.models, arguments.requests, arguments.exponent)
    limit = limit_for(folder, arguments.room)
    say(f"memory_limit: {limit / _MIB:.0f} MiB, with which {arguments.room} models fit")
    with on_demand(folder, str(limit)) as server, watched(server) as samples:
        run = send(server, requests, _CLIENTS, arguments.seconds)
        loads, evictions = (
            metric(server, "modelport_on_demand_loads_total"),
            metric(server, "modelport_evictions_total"),
        )
        loaded = int(metric(server, 'modelport_models{state="READY"}'))
        best = optimum(run.sent, max(loaded, arguments.room))
        hits = len(run.sent) - loads
        say(f"{loaded} models were loaded at the end")
        say(f"{len(run.sent)} requests, {len(run.problems)} failed or wrong {run.problems[:3] or ''}")
        say(f"hits: {hits / len(run.sent):.3f}, the optimum's {best / len(run.sent):.3f}: {hits / best:.3f} of it")
        say(
            f"{loads:.0f} loads, {evictions:.0f} evictions; p50, p99 of all: {', '.join(_milliseconds(run.seconds))} ms"
        )
        rare = [model for model in range(arguments.models) if model not in set(run.sent[-2000:])]
        cold = Run()
        client = Client(server)
        before = metric(server, "modelport_on_demand_loads_total")
        for model in rare[: arguments.cold]:
            began = time.perf_counter()
            cold.problems += filter(None, [client.infer(model)])
            cold.seconds.append(time.perf_counter() - began)
        client.close()
        were_cold = metric(server, "modelport_on_demand_loads_total") - before
    alone = bare(folder, rare[: arguments.cold])
    ratio = percentile(cold.seconds, 0.99) / percentile(alone, 0.99)
    rows = [
        ["a cold request", *_milliseconds(cold.seconds)],
        ["the bare load and first run", *_milliseconds(alone)],
    ]
    say(
        f"\n{were_cold:.0f} cold requests of {len(cold.seconds)}, {len(cold.problems)} failed; p99 is {ratio:.1f} times"
    )
    say(table(["", "p50 ms", "p99 ms"], rows))
    most = max(samples)
    say(f"\nmemory: at most {most / _MIB:.0f} MiB in {len(samples)} samples, {most / limit:.3f} of the limit")


def measure_scripted(
    name: str,
    starting: AbstractContextManager[Server],
    arguments: argparse.Namespace,
    say: Callable[[str], None],
) -> None:
    requests = trace(arguments.models, arguments.requests, arguments.exponent)
    with starting as server, watched(server) as samples:
        run = by_script(server, requests, arguments.room, arguments.seconds)
    best = optimum(run.sent, arguments.room)
    hits = len(run.sent) - len(run.cold)
    say(
        f"\n{name}, by a script: {len(run.sent)} requests, {len(run.problems)} failed or wrong {run.problems[:3] or ''}"
    )
    say(f"hits: {hits / len(run.sent):.3f}, {hits / max(best, 1):.3f} of the optimum's; {len(run.cold)} loads")
    rows = [["all", *_milliseconds(run.seconds)], ["that load a model", *_milliseconds(run.cold)]]
    say(table(["requests", "p50 ms", "p99 ms"], rows))
    say(f"memory: at most {max(samples) / _MIB:.0f} MiB in {len(samples)} samples")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="100 models, room for 10, 20 seconds")
    parser.add_argument("--models", type=int)
    parser.add_argument("--room", type=int)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--cold", type=int)
    parser.add_argument("--exponent", type=float, default=1.1)
    parser.add_argument("--old", type=Path, metavar="CHECKOUT")
    parser.add_argument("--triton", default="", metavar="PYTHON", help="also measure a tritonserver: see references/")
    arguments = parser.parse_args()
    short = {"models": 100, "room": 10, "requests": 3000, "seconds": 20.0, "cold": 40}
    usual = {"models": 1000, "room": 50, "requests": 20_000, "seconds": 120.0, "cold": 200}
    for name, value in (short if arguments.short else usual).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "repository")
        make(folder, arguments.models)
        say = partial(print, flush=True)
        say(f"{arguments.models} models, Zipf's exponent {arguments.exponent}, {_CLIENTS} clients\n")
        measure(folder, arguments, say)
        cores = first_core() | other_cores()
        if arguments.old:
            control = "--repository-control", "explicit"
            old = gateway(folder, *control, cores=cores, checkout=arguments.old)
            measure_scripted("the other checkout", old, arguments, say)
        if arguments.triton:
            triton = reference("triton_explicit", str(folder), ports=("http",), python=arguments.triton, cores=cores)
            measure_scripted("tritonserver", triton, arguments, say)


if __name__ == "__main__":
    main()
