"""What audits cost a worker: their CPU time, of that of batches of eight requests.

    python -m benchmarks.audit

The worker's own parts in one process, without sockets: a batch is put together, run, split and offered to the
auditor, which runs whatever is due as if nothing waited. The model is a chain of matrix products in numpy, on one
thread. Batches and audits are timed in turns, in CPU time: what else the machine does is not counted.
"""

import os
import time
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from benchmarks.report import table
from runtimes.contract import Model, Signature, TensorSpec
from runtimes.wire import InferFrame, from_array
from runtimes.worker.audit import Auditor
from runtimes.worker.batcher import Batching
from runtimes.worker.execute import Executor
from runtimes.worker.pending import Pending

REQUESTS, WIDTH, BATCHES = 8, 1024, 1000
SHARES = (0.0, 0.01, 0.1, 1.0)


class Chain(Model):
    def __init__(self, layers: int) -> None:
        spec = TensorSpec("x", "FP32", (-1, WIDTH))
        self.signatures = {"default": Signature((spec,), (spec._replace(name="y"),))}
        random = np.random.default_rng(0)
        self.layers = [random.standard_normal((WIDTH, WIDTH), np.float32) / WIDTH**0.5 for _ in range(layers)]

    def infer(self, inputs: dict[str, np.ndarray], outputs: Any, signature: str) -> dict[str, np.ndarray]:
        x = inputs["x"]
        for layer in self.layers:
            x = np.maximum(x @ layer, 0)
        return {"y": x}


class Load:
    def __init__(self, share: float, layers: int) -> None:
        batching = Batching(REQUESTS, frozenset({"default"}))
        self.executor = Executor(Chain(layers), batching, 1 << 30)
        self.auditor = Auditor(self.executor.pieces, 0, share)
        rows = np.random.default_rng(1).standard_normal((REQUESTS, 1, WIDTH), np.float32)
        frames = [InferFrame(1e18, 0, "default", [], [from_array("x", row)]) for row in rows]
        self.batch = [Pending("front", number, frame, 0.0, 1, "key") for number, frame in enumerate(frames)]

    def run(self) -> tuple[float, float]:
        """CPU seconds of all batches, and of what the auditor added."""
        batches = audits = 0.0
        for _ in range(BATCHES):
            began = time.process_time()
            outcomes = self.executor.run(self.batch)
            ran = time.process_time()
            self.auditor.ran(self.batch, outcomes)
            while self.auditor.is_due:
                assert self.auditor.step() is None
            batches += ran - began
            audits += time.process_time() - ran
        return batches, audits


def main() -> None:
    rows = []
    for layers in (1, 8):
        for share in SHARES:
            load = Load(share, layers)
            batches, audits = load.run()
            runs = load.auditor.runs / (BATCHES * REQUESTS)
            rows.append([f"{batches / BATCHES * 1e3:.2f}", f"{share:g}", f"{audits / batches:.2%}", f"{runs:.2%}"])
    print(table(["ms of CPU a batch", "audit_share", "audits, of that", "requests audited"], rows))


if __name__ == "__main__":
    main()
