"""A worker's program as in runtimes/worker/__main__.py, whose functions read the clock for benchmarks/worker_turn.py.

It prints, at its end, the mean CPU time of each stage in a turn, and of reading the clock, in microseconds, as JSON.
"""

import json
import os
import runpy
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Stage → functions, whose time counts for it except where they call a function of another stage. The rest of a turn is
# the loop's.
STAGES = {
    "receive": ["worker.connection:Connection.receive"],
    "unpack": ["request_frames:unpack_requests"],
    "queue, batch": [
        "worker.batcher:Batcher.add",
        "worker.batcher:Batcher.fits_at_once",
        "worker.batcher:Batcher.take_expired",
        "worker.batcher:Batcher.next",
    ],
    "status page": ["status_page:StatusPage.set_busy", "status_page:StatusPage.set_idle"],
    "gather inputs": ["worker.execute:Executor.inputs"],
    "fast path": ["worker.fast_path:FastPath.serve"],
    "run": ["worker.chunked_model:ChunkedModel.run"],
    "read outputs": ["worker.execute:Executor.results"],
    "pack results": ["worker.loop:send", "worker.fast_path:FastPath._pack"],
    "send": ["worker.connection:Connection.write", "worker.connection:Connection.flush"],
    "observe, audit": ["worker.batcher:Batcher.observe", "worker.audit:Auditor.observe"],
}
_LOOP = "loop"


class Stopwatch:
    """Adds up the CPU time of each stage, without that of reading the clock.

    The clock is that of the CPU, because a worker that has sent results is often preempted by the front.

    turns, reads: how many turns had a run, and how often they read the clock. cost: of reading it, in seconds.
    """

    def __init__(self) -> None:
        self.cost = min(-time.thread_time() + time.thread_time() for _ in range(1000))
        self.turns = self.reads = 0
        self.spent: Counter[str] = Counter()
        self._turn: Counter[str] = Counter()
        self._reads = 0
        self._stack = [_LOOP]
        self._since = 0.0

    def _switch(self) -> None:
        now = time.thread_time()
        self._turn[self._stack[-1]] += now - self._since - self.cost
        self._since = now
        self._reads += 1

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            self._switch()
            self._stack.append(stage)
            try:
                return function(*given)
            finally:
                self._switch()
                self._stack.pop()

        return call

    def waiting(self, wait: Callable[[float], Any]) -> Callable[[float], Any]:
        """Return `wait` of a poller, with which a turn ends and the next one begins."""

        def call(seconds: float) -> Any:
            self._switch()
            if "run" in self._turn:
                self.turns += 1
                self.reads += self._reads
                self.spent.update(self._turn)
            ready = wait(seconds)
            self._turn, self._reads, self._since = Counter(), 1, time.thread_time()
            return ready

        return call


def main() -> None:
    runpy.run_path(os.path.join(_ROOT, "runtimes", "bootstrap.py"))
    from importlib import import_module

    from runtimes.status_page import StatusPage
    from runtimes.worker import loop, start

    stopwatch = Stopwatch()
    for stage, names in STAGES.items():
        for name in names:
            module, _, path = name.partition(":")
            owner: Any = import_module(f"runtimes.{module}")
            *inside, last = path.split(".")
            for each in inside:
                owner = getattr(owner, each)
            setattr(owner, last, stopwatch.timed(stage, getattr(owner, last)))

    class Poller(loop.Poller):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.wait = stopwatch.waiting(self.wait)

    loop.Poller = Poller  # type: ignore[misc, attr-defined]
    control, listener = (socket.socket(fileno=int(number)) for number in sys.argv[2:4])
    start.serve(control, listener, StatusPage(sys.argv[4]))
    turns = stopwatch.turns / 1e6
    stages = {stage: seconds / turns for stage, seconds in stopwatch.spent.items()}
    print(json.dumps({"stages": stages, "clock": stopwatch.reads * stopwatch.cost / turns}))


if __name__ == "__main__":
    main()
