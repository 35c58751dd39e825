"""The cost of large inputs apart from the model: CPU time per image through the gateway, and of the framework alone.

    python -m benchmarks.payload [--short] [--width 40] [--in-flight 1]

A residual network of ResNet-18's layers, as ONNX and as TorchScript, on 1x3x224x224 float32 (602 kB as
bytes, 3 MB as JSON), with one row per request, and as ONNX with 27 rows per request (16 MB). Everything that computes
is pinned to the first core with one thread; contenders take turns, and each ratio is that of neighbors in one round.
With one in flight, "received and run" is a single process that does nothing else, and "received and handed over" are
two, one that receives and one that runs the model, so they show what is left to gain with and without that wall.
For JSON, the cost beyond the model is compared with that of a handwritten FastAPI server.
"""

import argparse
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import h2load, models, requests
from benchmarks.environments import Bare, bare, python_of
from benchmarks.h2load import Load
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import ROOT, Server, gateway, reference

LARGE_ROWS = 27
IMAGE = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
FLOORS = {"received and run": "receive_and_run", "received and handed over": "receive_and_hand_over"}
FRAMEWORKS = {"onnx": "model.onnx", "torchscript": "model.pt"}


def through(server: Server, load: Load, in_flight: int) -> Callable[[int], float]:
    """Return the CPU milliseconds per request of all server processes."""

    def measure(count: int) -> float:
        before = server.cpu_seconds()
        h2load.run(load, count, in_flight)
        return (server.cpu_seconds() - before) / count * 1e3

    return measure


def alone(framework: Bare, rows: int = 1) -> Callable[[int], float]:
    return lambda count: framework.seconds(rows, count)[0] / count * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="5 rounds of 20 images instead of 15 of 60")
    parser.add_argument("--width", type=int, default=40, help="channels of the first stage; ResNet-18 has 64")
    parser.add_argument("--in-flight", type=int, default=1)
    options = parser.parse_args()
    rounds, count = (5, 20) if options.short else (15, 60)
    contenders: dict[str, Callable[[int], float]] = {}
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder = Path(made)
        for name, file in FRAMEWORKS.items():
            path = folder / name / "1" / file
            path.parent.mkdir(parents=True)
            if name == "onnx":
                models.residual_network(path, options.width)
            else:
                maker = ROOT / "benchmarks" / "references" / "residual.py"
                subprocess.run([python_of(name), maker, path, str(options.width)], check=True)
                spec = '[[inputs]]\nname = "x"\ndatatype = "FP32"\nshape = [-1, 3, 224, 224]\n'
                (folder / name / "model.toml").write_text(f"max_batch_size = 32\n{spec}")
        ours = stack.enter_context(gateway(folder, models=list(FRAMEWORKS)))
        for name, file in FRAMEWORKS.items():
            framework = stack.enter_context(bare(name, folder / name / "1" / file))
            contenders[f"{name} alone"] = alone(framework)
            binary = requests.v2_binary(ours.ports["http"], name, IMAGE)
            contenders[f"{name} binary"] = through(ours, binary, options.in_flight)
            call = requests.v2_grpc(ours.ports["grpc"], name, IMAGE)
            contenders[f"{name} gRPC"] = through(ours, call, options.in_flight)
            if name == "onnx":
                large = requests.v2_binary(ours.ports["http"], name, np.repeat(IMAGE, LARGE_ROWS, axis=0))
                contenders["16MB alone"] = alone(framework, LARGE_ROWS)
                contenders["16MB binary"] = through(ours, large, options.in_flight)
                for what, program in FLOORS.items() if options.in_flight == 1 else ():
                    floor = stack.enter_context(reference(program, str(folder / name / "1" / file)))
                    for label, load in (("onnx", binary), ("16MB", large)):
                        there = Load(f"http://127.0.0.1:{floor.ports['port']}/", load.body, load.headers)
                        contenders[f"{label} {what}"] = through(floor, there, 1)
        as_json = requests.predict_json(ours.ports["http"], "onnx", IMAGE)
        contenders["onnx JSON"] = through(ours, as_json, options.in_flight)
        by_hand = stack.enter_context(reference("fastapi_json", str(folder / "onnx" / "1" / "model.onnx")))
        image = Load(f"http://127.0.0.1:{by_hand.ports['port']}/image", as_json.body, as_json.headers)
        contenders["FastAPI JSON"] = through(by_hand, image, options.in_flight)
        found: dict[str, list[float]] = {name: [] for name in contenders}
        for measure in contenders.values():
            measure(max(5, options.in_flight))
        for _ in range(rounds):
            for name, measure in contenders.items():
                share = 4 if "JSON" in name else LARGE_ROWS if "16MB" in name else 1
                found[name].append(measure(max(count // share, options.in_flight)))
    print(f"{options.in_flight} in flight, one core, {rounds} rounds of {count} images, width {options.width}\n")
    rows = []
    for name, values in found.items():
        framework = name.split()[0]
        base = found.get(f"{framework} alone", values)
        compared = [ratio(values, base), f"{min(values) / min(base):.3f}"] if base is not values else ["", ""]
        rows.append([name, median_and_spread(values, 2), *compared])
    print(table(["", "CPU ms per request", "relative to the framework alone", "ratio of minima"], rows))
    model = statistics.median(found["onnx alone"])
    beyond = [[value - model for value in found[name]] for name in ("onnx JSON", "FastAPI JSON")]
    ours, theirs = map(median_and_spread, beyond)
    print(f"\nJSON overhead: {ours} ms, FastAPI {theirs} ms; ratio {ratio(*beyond)}")


if __name__ == "__main__":
    main()
