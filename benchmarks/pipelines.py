"""What a pipeline costs beyond its steps, beside a client that calls the same models one after the other.

    python -m benchmarks.pipelines [--short] [--checkout FOLDER] [--triton PYTHON]

Three ONNX models of convolutions, one request in flight, float32 tensors as bytes over REST:

ends     16 kB → 4 MB → 4 MB → 32 bytes: a small picture is enlarged, filtered and described
whole    4 MB → 4 MB → 4 MB → 4 MB: the client sends and gets 4 MB as well
small    16 numbers → 16 numbers, three times: what a step costs if it computes nothing

Contenders take turns, and each ratio is that of neighbors in one round. "alone" is the sum of the steps in the bare
framework, each with inputs that lie ready; "beyond" is what server and client take besides. "shared memory only"
is a process for each step, which reads its input where the one before has written it, and does nothing else. The client
is one thread with raw sockets. With --triton, a tritonserver runs the same pipelines as ensembles of Python backends
(references/triton_ensembles.py).

With --steps, only pipelines of two and of six steps that compute nothing are measured, in many short rounds. A quarter
of the difference is what a further step takes.
"""

import argparse
import json
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import models
from benchmarks.environments import Bare, bare, chain
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import Server, first_core, gateway, other_cores, reference

_SIDE = 592  # 3 x 592 x 592 float32 are 4.2 MB
_SMALL_SIDE = 37
_CHANNELS = 8
_ENSEMBLE = "Triton's ensemble"
# Whose difference shows what a step takes.
_COUNTED = {"few": ["one", "two"], "many": ["one", "two", "three"] * 2}


class Client:
    """One connection over which requests of one input, and one output, are sent as bytes."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = memoryview(bytearray(1 << 24))

    def infer(self, model: str, data: memoryview, shape: Sequence[int]) -> tuple[memoryview, list[int]]:
        """Return the bytes of the output, which are valid until the next call, and its shape."""
        tensor = {"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        self._socket.sendall(
            f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: x\r\ninference-header-content-length: {len(head)}\r\n"
            f"content-length: {len(head) + len(data)}\r\n\r\n".encode()
            + head
        )
        self._socket.sendall(data)
        status, fields, body = self._receive()
        start = int(fields.get("inference-header-content-length", 0))
        if status != 200:
            raise RuntimeError(bytes(body).decode())
        return body[start:], json.loads(bytes(body[:start]))["outputs"][0]["shape"]

    def _receive(self) -> tuple[int, dict[str, str], memoryview]:
        size, end = 0, -1
        while end < 0:
            size += self._more(size)
            end = bytes(self._buffer[: min(size, 4096)]).find(b"\r\n\r\n")
        first, *lines = bytes(self._buffer[:end]).decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        stop = end + 4 + int(fields["content-length"])
        while size < stop:
            size += self._more(size)
        return int(first.split()[1]), fields, self._buffer[end + 4 : stop]

    def _more(self, size: int) -> int:
        received = self._socket.recv_into(self._buffer[size:])
        if not received:
            raise RuntimeError("the server has closed the connection")
        return received


def _convolutions(path: Path, side: int, describes: bool = False) -> None:
    """A picture of `side` pixels → one of _SIDE, or → a few numbers."""
    random = np.random.default_rng(0)
    first = random.normal(size=(_CHANNELS, 3, 3, 3)).astype(np.float32) / 5
    last = random.normal(size=(3, _CHANNELS, 3, 3)).astype(np.float32) / 8
    nodes, source = [], "x"
    constants = {"w1": first}
    if side != _SIDE:
        constants["scales"] = np.array([1, 1, _SIDE / side, _SIDE / side], np.float32)
        nodes.append(helper.make_node("Resize", ["x", "", "scales"], ["large"], mode="nearest"))
        source = "large"
    nodes.append(helper.make_node("Conv", [source, "w1"], ["c"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", ["c"], ["r"]))
    if describes:
        nodes.append(helper.make_node("GlobalAveragePool", ["r"], ["y"]))
        output = ["n", _CHANNELS, 1, 1]
    else:
        constants["w2"] = last
        nodes.append(helper.make_node("Conv", ["r", "w2"], ["y"], pads=[1, 1, 1, 1]))
        output = ["n", 3, _SIDE, _SIDE]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def _pipeline(folder: Path, steps: Sequence[str]) -> None:
    (folder / "1").mkdir(parents=True)
    names = ["x", *(f"t{number}" for number in range(1, len(steps))), "y"]
    folder.joinpath("model.toml").write_text(
        "".join(
            f'[[steps]]\nmodel = "{step}"\ninputs = {{ x = "{source}" }}\noutputs = {{ y = "{target}" }}\n'
            for step, source, target in zip(steps, names, names[1:], strict=False)
        )
    )


def _repository(folder: Path) -> dict[str, tuple[list[str], tuple[int, ...]]]:
    """Return the steps of each pipeline, and the shape of its input."""
    _convolutions(folder / "enlarge" / "1" / "model.onnx", _SMALL_SIDE)
    for name in ("filter", "sharpen", "blur"):
        _convolutions(folder / name / "1" / "model.onnx", _SIDE)
    _convolutions(folder / "describe" / "1" / "model.onnx", _SIDE, describes=True)
    for name in ("one", "two", "three"):
        (folder / name / "1").mkdir(parents=True)
        models.identity(folder / name / "1" / "model.onnx", TensorProto.FLOAT, 16)
    cases = {
        "ends": (["enlarge", "filter", "describe"], (1, 3, _SMALL_SIDE, _SMALL_SIDE)),
        "whole": (["filter", "sharpen", "blur"], (1, 3, _SIDE, _SIDE)),
        "small": (["one", "two", "three"], (1, 16)),
    }
    for name, (steps, _) in cases.items():
        _pipeline(folder / name, steps)
    for name, steps in _COUNTED.items():
        _pipeline(folder / name, steps)
    return cases


class Measured:
    """One way to run the steps: seconds, and CPU seconds of client and gateway together, for each request."""

    def __init__(self, server: Server, once: Callable[[], object]) -> None:
        self._server, self._once = server, once
        self.elapsed: list[float] = []
        self.cpu: list[float] = []

    def turn(self, count: int) -> None:
        before, start = self._server.cpu_seconds() + time.process_time(), time.perf_counter()
        for _ in range(count):
            self._once()
        self.elapsed.append((time.perf_counter() - start) / count)
        self.cpu.append((self._server.cpu_seconds() + time.process_time() - before) / count)


class Alone:
    """The steps in their bare framework, without any gateway."""

    def __init__(self, steps: Sequence[Bare]) -> None:
        self._steps = steps
        self.elapsed: list[float] = []
        self.cpu: list[float] = []

    def turn(self, count: int) -> None:
        found = [step.seconds(1, count) for step in self._steps]
        self.cpu.append(sum(cpu for cpu, _ in found) / count)
        self.elapsed.append(sum(elapsed for _, elapsed in found) / count)


class Chained:
    """The steps in processes of their own that share memory, and nothing else (references/step_chain.py)."""

    def __init__(self, steps: Bare) -> None:
        self._steps = steps
        self.elapsed: list[float] = []
        self.cpu: list[float] = []

    def turn(self, count: int) -> None:
        cpu, elapsed = self._steps.ask(count)
        self.cpu.append(cpu / count)
        self.elapsed.append(elapsed / count)


def _further_steps(servers: Mapping[str, Server], chains: Mapping[str, Bare], rounds: int) -> None:
    """Print the CPU time of a further step, which is free of the costs of the request itself.

    chains: the steps of each of _COUNTED in shared memory
    """
    shape = [1, 16]
    data = memoryview(np.ones(shape, np.float32).tobytes())

    def measured(server: Server, name: str) -> Measured:
        client = Client(server.ports["http"])
        return Measured(server, lambda: client.infer(name, data, shape))

    every: dict[str, Mapping[str, Measured | Chained]]
    every = {each: {name: measured(server, name) for name in _COUNTED} for each, server in servers.items()}
    every["shared memory only"] = {name: Chained(steps) for name, steps in chains.items()}
    for _ in range(rounds):
        for name in _COUNTED:
            for counted in every.values():
                counted[name].turn(200)
    further = len(_COUNTED["many"]) - len(_COUNTED["few"])
    steps = {
        each: [value / further for value in _minus(counted["many"].cpu, counted["few"].cpu)]
        for each, counted in every.items()
    }
    least = {each: (min(of["many"].cpu) - min(of["few"].cpu)) / further for each, of in every.items()}
    for each, values in steps.items():
        compared = f"; relative to Triton's {ratio(values, steps[_ENSEMBLE])}" if _ENSEMBLE in steps else ""
        print(f"{each}: a further step takes {_milliseconds(values)} ms of CPU time{compared}")
        compared = f", {least[each] / least[_ENSEMBLE]:.2f} of Triton's" if _ENSEMBLE in steps else ""
        print(f"    difference of the minima {least[each] * 1e3:.3f} ms{compared}")


def _milliseconds(values: Sequence[float]) -> str:
    return median_and_spread([value * 1e3 for value in values], 2)


def _minus(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value - other for value, other in zip(values, others, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="5 rounds instead of 15")
    parser.add_argument("--checkout", type=Path, help="measure another checkout of modelport")
    parser.add_argument("--triton", default="", metavar="PYTHON", help="also measure a tritonserver: see references/")
    parser.add_argument("--steps", action="store_true", help="only what a further step of small tensors takes")
    options = parser.parse_args()
    rounds = 5 if options.short else 15
    rows = []
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder = Path(made)
        cases = _repository(folder)
        every = [*_COUNTED, *cases, *{step for steps, _ in cases.values() for step in steps}]
        cores = first_core() | other_cores()
        server = stack.enter_context(gateway(folder, models=every, cores=cores, checkout=options.checkout))
        client = Client(server.ports["http"])
        triton = None
        if options.triton:
            ensembles = json.dumps(_COUNTED | {name: steps for name, (steps, _) in cases.items()})
            arguments = (str(folder), ensembles)
            running = reference("triton_ensembles", *arguments, ports=("http",), python=options.triton, cores=cores)
            triton = stack.enter_context(running)
        if options.steps:
            servers = {"pipeline": server} | ({_ENSEMBLE: triton} if triton else {})
            files = {name: [folder / step / "1" / "model.onnx" for step in steps] for name, steps in _COUNTED.items()}
            chains = {name: stack.enter_context(chain(each, (1, 16), cores)) for name, each in files.items()}
            _further_steps(servers, chains, 4 * rounds)
            return
        for name, (steps, shape) in cases.items():
            shapes = [shape] + [shape if name == "small" else (1, 3, _SIDE, _SIDE)] * (len(steps) - 1)
            bares = [
                stack.enter_context(bare("onnx", folder / step / "1" / "model.onnx", each[1:], cores))
                for step, each in zip(steps, shapes, strict=True)
            ]
            array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
            artifacts = [folder / step / "1" / "model.onnx" for step in steps]
            chained = Chained(stack.enter_context(chain(artifacts, shape, cores)))
            rows += _measure(server, client, name, steps, array, Alone(bares), chained, rounds, triton)
    print(f"{rounds} rounds, one request in flight, {len(cores)} cores; CPU time is that of client and gateway\n")
    head = ["case", "contender", "ms", "/ alone", "CPU ms", "/ alone", "CPU ms beyond", "/ three calls"]
    print(table(head, rows))


def _measure(
    server: Server,
    client: Client,
    name: str,
    steps: Sequence[str],
    array: np.ndarray,
    alone: Alone,
    chained: Chained,
    rounds: int,
    triton: Server | None,
) -> list[list[str]]:
    shape, data = list(array.shape), memoryview(array.tobytes())

    def calls() -> memoryview:
        body, described = data, shape
        for step in steps:
            body, described = client.infer(step, memoryview(bytes(body)), described)
        return body

    def pipeline() -> memoryview:
        return client.infer(name, data, shape)[0]

    expected = bytes(calls())
    if bytes(pipeline()) != expected:
        raise RuntimeError(f"the pipeline {name} does not answer what its steps do")
    contenders: dict[str, Measured | Chained] = {
        "pipeline": Measured(server, pipeline),
        "three calls": Measured(server, calls),
        "shared memory only": chained,
    }
    if triton is not None:
        other = Client(triton.ports["http"])
        answer = np.frombuffer(other.infer(name, data, shape)[0], np.float32)
        if not np.allclose(answer, np.frombuffer(expected, np.float32), rtol=1e-4, atol=1e-4):
            raise RuntimeError(f"Triton's ensemble {name} does not answer what the steps do")
        contenders[_ENSEMBLE] = Measured(triton, lambda: other.infer(name, data, shape))
    count = 500 if name == "small" else 10
    for _ in range(rounds):
        alone.turn(count)
        for measured in contenders.values():
            measured.turn(count)
    beyond = {each: _minus(measured.cpu, alone.cpu) for each, measured in contenders.items()}
    return [
        [name, "alone", _milliseconds(alone.elapsed), "", _milliseconds(alone.cpu), "", "", ""],
        *(
            [
                name,
                contender,
                _milliseconds(measured.elapsed),
                ratio(measured.elapsed, alone.elapsed),
                _milliseconds(measured.cpu),
                ratio(measured.cpu, alone.cpu),
                _milliseconds(beyond[contender]),
                ratio(beyond[contender], beyond["three calls"]),
            ]
            for contender, measured in contenders.items()
        ),
    ]


if __name__ == "__main__":
    main()
