"""Where the time of a request goes: CPU per stage, in the front and in the worker, by a sampling profiler.

    python -m benchmarks.stages [--dialect JSON|v2|binary|gRPC] [--in-flight 32]

py-spy, which `make .venv/benchmarking` installs, samples both processes while h2load sends requests to the tiny model.
A sample belongs to the stage of its innermost frame that matches one. The shares are applied to the CPU time of a run
without the profiler, because the profiler slows the processes down.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import psutil

from benchmarks import h2load, models, requests
from benchmarks.overhead import ROW
from benchmarks.report import table
from benchmarks.servers import Server, cpu_seconds, gateway

DIALECTS = {
    "JSON": (requests.predict_json, "http"),
    "v2": (requests.v2_json, "http"),
    "binary": (requests.v2_binary, "http"),
    "gRPC": (requests.v2_grpc, "grpc"),
}
# Stage → pattern. A sample belongs to the first stage whose pattern matches a frame, from the innermost frame outwards.
FRONT = [
    (
        "send, receive, event loop",
        r"_write \(gateway/front/http|_flush \(gateway/engine/client|Runner\.run|pygrpc_native",
    ),
    (
        "decode",
        r"_read \(gateway/front|read_(request|document|inputs|tensor|raw|npy)|loads \(|grpc_message|grpc_request",
    ),
    ("encode", r"_write \(gateway/front/dialects|write_(response|predictions|npy)|json_values|dumps \("),
    ("admit, validate, record", r"engine/(engine|admission|deadlines|validate|metrics|routes|servable)\.py"),
    ("queue, wire", r"engine/(queue|client)\.py|runtimes/(wire|layouts)\.py"),
    ("HTTP", r"front/(http|base)/|uvicorn|front/grpc"),
]
WORKER = [
    ("receive, unpack", r"Connection\.receive|FrameReader|unpack_requests"),
    ("batch", r"worker/(batcher|waiting|sizing|cost|shedding|pending)\.py"),
    ("gather inputs", r"gather_inputs|worker/rows\.py|FastPath\.serve"),
    ("run", r"worker/chunked_model\.py|modelport_runtime|runtimes/onnx|onnxruntime"),
    (
        "read outputs, pack",
        r"Executor\.results|worker/results\.py|FastPath\._pack|(pack|join)_(grouped_)?results?|from_array",
    ),
    ("status page", r"status_page\.py|_mark_busy"),
    ("send", r"Connection\.write|_flush|Connection\.flush"),
    ("loop", r"worker/"),
]
_WAITING = re.compile(r"Loop\._poll \([^;]*\)$")  # a worker, until a socket is ready


def stage_of(stack: str, stages: list[tuple[str, str]]) -> str:
    for frame in reversed(stack.split(";")):
        for name, pattern in stages:
            if re.search(pattern, frame):
                return name
    return "other"


def sample(pid: int, seconds: int, into: Path) -> "subprocess.Popen[bytes]":
    program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin") or "py-spy"
    command = [program, "record", "-p", str(pid), "-d", str(seconds), "-r", "1000", "-f", "raw", "-o", str(into)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def find(server: Server, part: str) -> psutil.Process:
    return next(process for process in server.tree() if part in " ".join(process.cmdline()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dialect", choices=DIALECTS, default="JSON")
    parser.add_argument("--in-flight", type=int, default=32)
    options = parser.parse_args()
    make, port = DIALECTS[options.dialect]
    seconds = 6
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        models.tiny_mlp(folder / "tiny" / "1" / "model.onnx")
        with gateway(folder, models=["tiny"]) as server:
            load = make(server.ports[port], "tiny", ROW)
            parts = {
                "front": (find(server, "gateway.front.process"), FRONT),
                "worker": (find(server, "worker/__main__.py"), WORKER),
            }
            rate = h2load.run(load, 5000, options.in_flight)
            count = int(rate.count / rate.seconds * seconds)
            before = {name: cpu_seconds(process.pid) for name, (process, _) in parts.items()}
            h2load.run(load, count, options.in_flight)
            spent = {
                name: (cpu_seconds(process.pid) - before[name]) / count * 1e6 for name, (process, _) in parts.items()
            }
            watching = [sample(process.pid, seconds, folder / name) for name, (process, _) in parts.items()]
            h2load.run(load, count, options.in_flight)
            for each in watching:
                each.wait()
        rows = []
        for name, (_, stages) in parts.items():
            found: Counter[str] = Counter()
            for line in (folder / name).read_text().splitlines():
                stack, _, times = line.rpartition(" ")
                # The profiler also counts threads that wait without using CPU: those of libraries, and the worker's.
                if "threading.py" not in stack and not _WAITING.search(stack):
                    found[stage_of(stack, stages)] += int(times)
            total = sum(found.values())
            if not total:
                sys.exit(f"py-spy took no samples of the {name}: run this while the machine is otherwise idle")
            rows.append([f"**{name}**", f"{spent[name]:.1f}", ""])
            for stage, samples in found.most_common():
                rows.append([stage, f"{samples / total * spent[name]:.1f}", f"{samples / total:.0%}"])
    print(f"{options.dialect}, {options.in_flight} in flight\n")
    print(table(["", "CPU µs a request", "share"], rows))


if __name__ == "__main__":
    main()
