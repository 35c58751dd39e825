"""The cost of audits: a worker's CPU time with and without them, side by side.

    python -m benchmarks.audit

The worker's own components run in one process, without sockets: a batch of eight requests is concatenated, run, split
and passed to the auditor, which runs whatever is due as if no request waited. Two workers, one of them without audits,
take turns with 20 batches each. CPU time is measured, so other work of the machine does not count. The time of the
auditor without audits, which only reads the clock, is subtracted. The model is a chain of matrix products in numpy, on
one thread. The rows with a share of 0 show the noise.
"""

import argparse
import os
import time
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from benchmarks.report import table
from runtimes import request_frames, wire
from runtimes.contract import Model, Signature, TensorSpec
from runtimes.request_frames import InferFrame
from runtimes.tensors import from_array
from runtimes.worker.audit import Auditor
from runtimes.worker.batcher import Batching
from runtimes.worker.budget import Budget
from runtimes.worker.execute import Executor
from runtimes.worker.pending import Batch, PendingGroup

REQUESTS, BATCHES = 8, 20
# Layers and columns of each → rounds.
MODELS = {(1, 256): 800, (1, 1024): 300, (8, 1024): 40}
SHARES = (0.0, 0.01)


class Chain(Model):
    def __init__(self, layers: int, columns: int) -> None:
        spec = TensorSpec("x", "FP32", (-1, columns))
        self.signatures = {"default": Signature((spec,), (spec._replace(name="y"),))}
        random = np.random.default_rng(0)
        self.layers = [random.standard_normal((columns, columns), np.float32) / columns**0.5 for _ in range(layers)]

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        x = inputs["x"]
        for layer in self.layers:
            x = np.maximum(x @ layer, 0)
        return {"y": x}


class Load:
    def __init__(self, share: float, model: Chain) -> None:
        self._others = self._ended = time.process_time()
        batching = Batching(REQUESTS, frozenset({"default"}))
        self.executor = Executor(model, batching, 1 << 30)
        self.auditor = Auditor(self.executor.chunked_model, 0, Budget(share, cpu=self._cpu))
        rows = np.random.default_rng(1).standard_normal((REQUESTS, 1, len(model.layers[0])), np.float32)
        frames = [InferFrame(1e18, 0, "default", [], [from_array("x", row)]) for row in rows]
        (read,) = wire.FrameReader().feed(b"".join(map(bytes, request_frames.pack_infer(list(enumerate(frames))))))
        requests = request_frames.unpack_requests(read.body)
        self.batch = Batch([PendingGroup("front", requests, 0, REQUESTS, 0.0, 1, "key")])

    def _cpu(self) -> float:
        """Return the process's CPU time, minus the CPU time it has spent on the other worker."""
        return time.process_time() - self._others

    def run(self) -> tuple[float, float]:
        """Return the CPU seconds of some batches, and of the auditor between them."""
        began = ended = time.process_time()
        self._others += began - self._ended
        audits = 0.0
        for _ in range(BATCHES):
            outcomes = self.executor.run(self.batch)
            ran = time.process_time()
            self.auditor.observe(self.batch, outcomes)
            while self.auditor.is_due:
                assert self.auditor.step() is None
            ended = time.process_time()
            audits += ended - ran
        self._ended = ended
        return ended - began, audits


def measure(size: tuple[int, int], share: float, rounds: int) -> list[str]:
    model = Chain(*size)  # shared by both: the address of its weights matters more than an audit
    without, audited = Load(0.0, model), Load(share, model)
    took, audits = {without: 0.0, audited: 0.0}, {without: 0.0, audited: 0.0}
    for number in range(rounds):
        for load in (without, audited) if number % 2 else (audited, without):
            seconds, of_it = load.run()
            took[load] += seconds
            audits[load] += of_it
    batches = rounds * BATCHES
    computed = took[without] - audits[without]
    return [
        f"{computed / batches * 1e3:.2f}",
        f"{share:g}",
        f"{(audits[audited] - audits[without]) / computed:.2%}",
        f"{took[audited] / took[without]:.3f}",
        f"{audited.auditor.runs / (batches * REQUESTS):.2%}",
    ]


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    head = ["ms a batch", "audit_share", "audits, of the batches' time", "CPU with, of without", "requests audited"]
    rows = [measure(size, share, rounds) for size, rounds in MODELS.items() for share in SHARES]
    print(table(head, rows))


if __name__ == "__main__":
    main()
