"""The CPU time of one turn of a real worker process, by stage, beside a front on the same core.

    python -m benchmarks.worker_turn [--in-flight 1] [--rounds 20]

The front sends the requests of a turn in one frame and waits for their results. Before the next turn it does other
work in Python, because a worker that shares its core with a front finds the caches cold. The least of many rounds is
reported, and the same for the sketch. The shares of the stages are those in a second worker, whose functions read the
clock (benchmarks/references/timed_worker.py). What they do not explain is the kernel's time to put a worker to sleep
and to wake it up.
"""

import argparse
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks import models
from benchmarks.environments import python_of
from benchmarks.report import table
from benchmarks.servers import ROOT, cpu_seconds, first_core
from runtimes import request_frames, status_page, wire
from runtimes.layouts import by_row, new_layout
from runtimes.tensors import Tensor

_ROW = np.linspace(-1, 1, 16, dtype=np.float32).tobytes()
_TURNS = 200  # of one round
_WAIT_S = 60.0
_DOCUMENT = json.dumps([{"name": "x", "shape": [1, 16], "data": [number / 7 for number in range(16)]}] * 4)
_HEAD = "".join(f"header-{number}: value {number}\r\n" for number in range(12))
_HEADERS = re.compile(r"(\S+): ([^\r]+)\r\n")
_TABLE = {number: (number, str(number)) for number in range(20_000)}
_MEMORY = bytearray(1 << 19)


def other_work() -> None:
    """Do roughly what a front does between two turns, for about 150 µs."""
    json.dumps(json.loads(_DOCUMENT))
    dict(_HEADERS.findall(_HEAD))
    sorted(_TABLE[number * 7919 % len(_TABLE)] for number in range(60))
    _MEMORY[::64] = bytes(len(_MEMORY) // 64)
    list(map(str, range(50)))


class Contender:
    """A worker process. `request` is what the front sends per turn, and `size` how many bytes it gets back."""

    def __init__(self, process: "subprocess.Popen[str]", front: socket.socket, request: bytes, size: int) -> None:
        self.process = process
        self._front, self._request, self._size = front, request, size
        front.settimeout(_WAIT_S)

    def turns(self, count: int) -> float:
        """Return the CPU seconds of the worker for this many turns."""
        before = cpu_seconds(self.process.pid)
        for _ in range(count):
            other_work()
            self._front.sendall(self._request)
            missing = self._size
            while missing:
                missing -= len(self._front.recv(missing))
        return cpu_seconds(self.process.pid) - before


@contextmanager
def worker(program: Path, artifact: Path, in_flight: int) -> Iterator[Contender]:
    """Start a worker of this checkout. It ends with the block, and its output is in `process.stdout`."""
    with tempfile.TemporaryDirectory() as made, ExitStack() as opened:
        page, address = Path(made, "status"), str(Path(made, "socket"))
        status_page.create(str(page))
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(address)
        listener.listen()
        control, theirs = (opened.enter_context(each) for each in socket.socketpair())
        control.settimeout(_WAIT_S)
        passed = theirs.fileno(), listener.fileno()
        command = [str(python_of("onnx")), "-I", str(program), str(os.getpid()), *map(str, passed), str(page), ""]
        process = subprocess.Popen(
            command, pass_fds=passed, stdout=subprocess.PIPE, text=True, env={"ORT_DISABLE_TELEMETRY": "1"}
        )
        load = {"runtime": str(ROOT / "runtimes" / "onnx"), "artifact": str(artifact), "warmup": 1}
        control.sendall(wire.pack_json(wire.LOAD, load))
        (ready,) = wire.FrameReader().feed(control.recv(1 << 16))
        if ready.kind != wire.READY:
            raise RuntimeError(f"the worker did not load the model: {bytes(ready.body).decode()}")
        front = opened.enter_context(socket.socket(socket.AF_UNIX))
        front.connect(address)
        tensor = Tensor("x", "FP32", (1, 16), _ROW)
        layout = by_row(new_layout("default", (), [tensor]), 0)
        frame = request_frames.InferFrame(time.monotonic() + 1e6, 0, "default", (), [tensor], layout)
        request = b"".join(map(bytes, request_frames.pack_infer([(number, frame) for number in range(in_flight)])))
        front.sendall(request)
        head = front.recv(wire.HEADER.size, socket.MSG_WAITALL)
        size = wire.HEADER.unpack(head)[0]
        front.recv(size, socket.MSG_WAITALL)
        try:
            yield Contender(process, front, request, wire.HEADER.size + size)
        finally:
            control.sendall(wire.pack_json(wire.STOP, {}))
            front.close()
            process.wait(_WAIT_S)


@contextmanager
def sketch(artifact: Path, in_flight: int) -> Iterator[Contender]:
    front, theirs = socket.socketpair()
    with front:
        code = "import socket, sys; from benchmarks.references.sketch import work; "
        code += "work(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])"
        command = [sys.executable, "-c", code, str(theirs.fileno()), str(artifact)]
        with theirs:
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT, text=True)
        request = b"".join(struct.pack("<IQ", len(_ROW), number) + _ROW for number in range(in_flight))
        contender = Contender(process, front, request, in_flight * (12 + 16))
        contender.turns(1)
        yield contender
    process.wait(_WAIT_S)


def measure(contenders: Sequence[Contender], rounds: int) -> list[float]:
    """Return the least CPU seconds per turn of each, in rounds that take turns."""
    least = [float("inf")] * len(contenders)
    for _ in range(rounds):
        for number, contender in enumerate(contenders):
            contender.turns(5)
            least[number] = min(least[number], contender.turns(_TURNS) / _TURNS)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    os.sched_setaffinity(0, first_core())
    with tempfile.TemporaryDirectory() as folder, ExitStack() as started:
        artifact = Path(folder, "model.onnx")
        models.tiny_mlp(artifact)
        plain = started.enter_context(worker(ROOT / "runtimes" / "worker" / "__main__.py", artifact, options.in_flight))
        bare = started.enter_context(sketch(artifact, options.in_flight))
        total, of_sketch = (seconds * 1e6 for seconds in measure([plain, bare], options.rounds))
        with worker(ROOT / "benchmarks" / "references" / "timed_worker.py", artifact, options.in_flight) as timed:
            timed.turns(_TURNS)
            turns = _TURNS * options.rounds
            timed_total = timed.turns(turns) / turns * 1e6
        assert timed.process.stdout is not None
        printed = json.loads(timed.process.stdout.read().splitlines()[-1])
    timed_total -= printed["clock"]
    stages: dict[str, float] = printed["stages"]
    stages["sleep, wake up"] = timed_total - sum(stages.values())
    shares = {name: spent / timed_total for name, spent in stages.items()}
    rows = [[name, f"{share * total:.1f}", f"{share:.0%}"] for name, share in shares.items()]
    rows.sort(key=lambda row: -float(row[1]))
    head = [["**worker**", f"{total:.1f}", ""], ["**sketch**", f"{of_sketch:.1f}", ""]]
    print(f"{options.in_flight} in flight\n")
    print(table(["", "CPU µs a turn", "share"], head + rows))


if __name__ == "__main__":
    main()
