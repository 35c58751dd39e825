"""How much of a GPU's throughput remains behind the gateway: ResNet-50 on images, and an encoder of BERT-base's size.

    python -m benchmarks.gpu                     # on a machine with a CUDA device: all of it
    python -m benchmarks.gpu --device cpu --tiny # a smoke test for any machine; its figures are meaningless

The same TorchScript model runs in three ways: bare, in the same environment, at its best batch size and with inputs
already on the device; by requests created inside a front, with inputs in shared memory; and over gRPC, with uint8
images and token ids in raw_input_contents, from the number of client processes that performs best. Items are images or
sequences of 128 tokens. The floor is the time the device would need for the model's arithmetic alone, or for moving
its weights once per batch and its inputs and outputs, at the rates of one large matrix product and one large copy.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inside import answered
from benchmarks.report import table
from benchmarks.servers import ROOT, gateway
from gateway.config import home
from gateway.environments.environment import build, locate
from gateway.environments.runtime import discover
from gateway.generated import open_inference_pb2 as pb
from runtimes.contract import numpy_dtype
from runtimes.tensors import Tensor, from_array

KINDS = ("resnet50", "bert")
SCRIPT = ROOT / "benchmarks" / "references" / "torch_models.py"
WANTED_INSIDE, WANTED_GRPC = 0.95, 0.85
_BYTES = {"float": 4, "half": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Plan:
    """The options of a measurement.

    rows: the number of rows in one request.
    python: an interpreter with PyTorch, by default that of the runtime's environment.
    """

    device: str
    precision: str
    tiny: bool
    rows: int
    seconds: float
    fronts: int
    clients: Sequence[int]
    graphs: bool
    python: Path | None

    @property
    def accelerator(self) -> str:
        return "cpu" if self.device == "cpu" else "cuda"

    @property
    def interpreter(self) -> Path:
        if self.python is not None:
            return self.python
        environment = locate(discover()["torchscript"], self.accelerator, home())
        if not environment.ready:
            import asyncio

            asyncio.run(build(environment, lambda line: print(line, file=sys.stderr)))
        return environment.python

    def torch(self, *arguments: str) -> Any:
        """Run the script with PyTorch's interpreter, and return its result."""
        command = [str(self.interpreter), str(SCRIPT), *arguments, *(["--tiny"] if self.tiny else [])]
        threads = str(len(os.sched_getaffinity(0)))
        variables = {key: value.replace("{threads}", threads) for key, value in discover()["torchscript"].env.items()}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | variables)
        return json.loads(done.stdout.splitlines()[-1])


def measure(plan: Plan, folder: Path, kind: str, described: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the device's name, and a row of the table."""
    artifact = folder / "models" / kind / "1" / "model.pt"
    arguments = ["--kind", kind, "--device", plan.device, "--precision", plan.precision]
    bare = plan.torch("bare", str(artifact), *arguments)
    batch, best = max(((int(size), rate) for size, rate in bare["rates"].items()), key=lambda each: each[1])
    print(f"{kind}: bare {best:.0f} items/s at batch {batch}", file=sys.stderr)
    repository = folder / kind
    repository.mkdir()
    (folder / "models" / kind).rename(repository / kind)
    (repository / kind / "model.toml").write_text(model_toml(plan, kind, batch))
    rows = min(plan.rows, batch)
    tensor = one_request(described, rows)
    in_flight = 4 * max(batch // rows, 1)  # three batches fill the window of a pipelined model
    inside = rows * answered(repository, kind, tensor, in_flight, plan.seconds, plan.accelerator, plan.python)
    print(f"{kind}: inside a front {inside:.0f} items/s", file=sys.stderr)
    grpc, clients = over_grpc(plan, folder, repository, kind, tensor, in_flight)
    weights = described["parameters"] * _BYTES[plan.precision]
    moved = weights / batch + len(tensor.data) / rows + described["gives_bytes"]
    return bare["device"], [
        kind,
        f"{best:.0f} (batch {batch})",
        f"{inside:.0f} ({inside / best:.2f}, wanted {WANTED_INSIDE})",
        f"{grpc * rows:.0f} ({grpc * rows / best:.2f}, wanted {WANTED_GRPC})",
        f"{clients} × {rows}",
        f"{bare['flop_s'] / described['flop']:.0f}",
        f"{bare['bytes_s'] / moved:.0f}",
        f"{bare['flop_s'] / 1e12:.3g} TFLOP/s, {bare['bytes_s'] / 1e9:.3g} GB/s",
    ]


def model_toml(plan: Plan, kind: str, batch: int) -> str:
    lines = [f"max_batch_size = {batch}", f"batch_sizes = [{batch}]", f'device = "{plan.device}"', "[parameters]"]
    lines.append(f'precision = "{plan.precision}"')
    if kind == "resnet50":
        lines.append("channels_last = true")
    if plan.graphs:
        lines.append("cuda_graphs = true")
    return "\n".join([*lines, ""])


def one_request(described: dict[str, Any], rows: int) -> Tensor:
    takes = described["takes"]
    random = np.random.default_rng(0)
    values = random.integers(0, 256, (rows, *takes["shape"][1:])).astype(numpy_dtype(takes["datatype"]))
    return from_array(takes["name"], values)


def over_grpc(
    plan: Plan, folder: Path, repository: Path, model: str, tensor: Tensor, in_flight: int
) -> tuple[float, int]:
    """Return the highest number of requests per second, and the number of client processes that reached it."""
    message = pb.ModelInferRequest(model_name=model, raw_input_contents=[bytes(tensor.data)])
    message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    file = folder / "message"
    file.write_bytes(message.SerializeToString())
    flags = ["--accelerator", plan.accelerator, "--fronts", str(plan.fronts)]
    if plan.python:
        flags += ["--python", f"torchscript={plan.python}"]
    best = (0.0, 0)
    with gateway(repository, *flags, models=[model], cores=os.sched_getaffinity(0)) as server:
        for count in plan.clients:
            each = max(-(-in_flight // count), 2)
            rate = clients_answered(server.ports["grpc"], file, count, each, plan.seconds)
            print(f"{model}: {count} clients over gRPC {rate * tensor.shape[0]:.0f} items/s", file=sys.stderr)
            best = max(best, (rate, count))
    return best


def clients_answered(port: int, message: Path, count: int, in_flight: int, seconds: float) -> float:
    command = [sys.executable, "-m", "benchmarks.grpc_client", str(port), str(message), str(in_flight), str(seconds)]
    clients = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(count)
    ]
    try:
        for client in clients:
            assert client.stdout is not None
            if client.stdout.readline().strip() != "ready":
                raise RuntimeError("a client got no answer")
        for client in clients:
            assert client.stdin is not None
            client.stdin.write("go\n")
            client.stdin.flush()
        return sum(int(client.communicate()[0]) for client in clients) / seconds
    finally:
        for client in clients:
            client.kill()
            client.communicate()


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cpu or cuda:N")
    parser.add_argument("--precision", choices=tuple(_BYTES), help="default: half, on the CPU float")
    parser.add_argument("--tiny", action="store_true", help="small models and short runs: a trial of this script")
    parser.add_argument("--rows", type=int, default=8, help="items of one request")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--fronts", type=int, default=max(1, cores // 4))
    parser.add_argument("--clients", type=int, nargs="*", help="numbers of client processes to try")
    parser.add_argument("--graphs", action="store_true", help="cuda_graphs = true")
    parser.add_argument("--python", type=Path, help="an interpreter that has PyTorch")
    parser.add_argument("--only", choices=KINDS)
    given = parser.parse_args()
    tried = given.clients or [count for count in (1, 2, 4, 8, 16, 32) if count == 1 or count <= cores // 2]
    plan = Plan(
        device=given.device,
        precision=given.precision or ("float" if given.device == "cpu" else "half"),
        tiny=given.tiny,
        rows=given.rows,
        seconds=given.seconds or (1.0 if given.tiny else 10.0),
        fronts=given.fronts,
        clients=tried,
        graphs=given.graphs,
        python=given.python,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        described = plan.torch("make", str(folder / "models"))
        kinds = [given.only] if given.only else KINDS
        measured = [measure(plan, folder, kind, described[kind]) for kind in kinds]
    head = ["model", "bare items/s", "inside a front", "gRPC", "clients × rows", "FLOP floor", "bytes floor", "reached"]
    print(f"Device: {measured[0][0]}; precision {plan.precision}; {cores} cores, {plan.fronts} fronts\n")
    print(table(head, [row for _, row in measured]))


if __name__ == "__main__":
    main()
