"""The CPU cost of a request in a worker's Python code: frames, batches and answers of a trivial model, without sockets.

    python -m benchmarks.worker_path [--in-flight 32] [--fronts 1] [--profile]

The loop is that of a real worker, but its front is an object that provides frames and counts the bytes written to it.
The model multiplies by a matrix in numpy, and its time is subtracted. The figure is the minimum of many short rounds,
because noise on a shared machine only adds time.
"""

import argparse
import cProfile
import pstats
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from runtimes import request_frames, status_page
from runtimes.contract import Model, Signature, TensorSpec
from runtimes.layouts import by_row, new_layout
from runtimes.status_page import StatusPage
from runtimes.tensors import Tensor
from runtimes.worker.batcher import Batching
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.facts import Facts
from runtimes.worker.loop import Loop

_ROUNDS, _TURNS = 40, 50
_SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 16)),), (TensorSpec("y", "FP32", (-1, 4)),))
_ROW = np.linspace(-1, 1, 16, dtype=np.float32)


class Tiny(Model):
    """A model that maps 16 numbers to 4. `seconds` is the CPU time that its own code has taken."""

    def __init__(self) -> None:
        self.signatures = {"": _SIGNATURE}
        self._weights = np.ones((16, 4), np.float32)
        self.seconds = 0.0

    def infer(self, inputs: Any, outputs: Any, signature: str) -> Any:
        started = time.process_time()
        result = {"y": inputs["x"] @ self._weights}
        self.seconds += time.process_time() - started
        return result


class Stream:
    """A stand-in for the front's socket, from which the bytes of one turn can be read."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.arrived = b""
        self.written = 0

    def setblocking(self, blocking: bool) -> None:
        pass

    def fileno(self) -> int:
        return self._ours.fileno()

    def recv(self, size: int) -> bytes:
        data, self.arrived = self.arrived, b""
        if not data:
            raise BlockingIOError
        return data

    def recvmsg(self, size: int, ancillary: int) -> tuple[bytes, list[Any], int, None]:
        """The first bytes, with which a front sends the descriptors of its memory. There are none here."""
        return self.recv(size), [], 0, None

    def sendmsg(self, buffers: Any) -> int:
        size = sum(len(buffer) for buffer in buffers)
        self.written += size
        return size

    def send(self, data: Any) -> int:
        self.written += len(data)
        return len(data)


def frames(in_flight: int) -> bytes:
    tensor = Tensor("x", "FP32", (1, 16), _ROW.tobytes())
    frame = request_frames.InferFrame(1e9, 1, "", (), [tensor], by_row(new_layout("", (), [tensor]), 0))
    return b"".join(request_frames.pack_infer([(number, frame) for number in range(in_flight)]))


def measure(in_flight: int, fronts: int, cold_bytes: int, profile: cProfile.Profile | None) -> float:
    """Return the minimum CPU time per request, in microseconds.

    fronts: how many fronts the requests of each batch come from, in equal parts.
    cold_bytes: how much memory is written before each turn, to evict the worker's data from the caches.
    """
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "status")
        page.write_bytes(bytes(status_page.SIZE))
        model, (_, control) = Tiny(), socket.socketpair()
        batching = Batching(in_flight, frozenset([""]))
        executor = Executor(model, batching, 1 << 30)
        listener = socket.create_server(("127.0.0.1", 0))
        facts = Facts(model.signatures, model.signatures, False, batching, "", "")
        loop = Loop(executor, listener, Connection(control), StatusPage(str(page)), facts, 0.01)
        streams = [Stream() for _ in range(fronts)]
        connections = [Connection(stream) for stream in streams]  # type: ignore[arg-type]
        for connection in connections:
            loop._add(connection)
        ready = [(connection.descriptor, 1) for connection in connections]
        loop._poller.wait = lambda seconds: ready  # type: ignore[method-assign]
        data, best = frames(in_flight // fronts), float("inf")
        # Writing to this array simulates other processes that use the caches between turns.
        others = np.zeros(cold_bytes, np.uint8)
        for _ in range(_ROUNDS):
            model.seconds = 0.0
            if profile:
                profile.enable()
            spent = -model.seconds
            for _ in range(_TURNS):
                others[:] = 0
                for stream in streams:
                    stream.arrived = data
                started = time.process_time()
                loop.turn(0.0)
                spent += time.process_time() - started
            spent -= model.seconds
            if profile:
                profile.disable()
            best = min(best, spent / _TURNS / in_flight * 1e6)
        assert all(stream.written for stream in streams)
        return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--fronts", type=int, default=1, help="from which the requests of a batch come")
    parser.add_argument("--profile", action="store_true", help="and which functions take it")
    options = parser.parse_args()
    for cold_bytes in (0, 1 << 20, 8 << 20):
        microseconds = measure(options.in_flight, options.fronts, cold_bytes, None)
        print(f"{microseconds:.1f} µs a request in the worker, cold {cold_bytes}")
    if options.profile:
        profile = cProfile.Profile(time.process_time)
        measure(options.in_flight, options.fronts, 0, profile)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    main()
