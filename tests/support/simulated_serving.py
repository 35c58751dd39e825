"""Fronts, workers and clients in simulated time, with the real Batcher, StatusPage and Estimator.

A worker reads requests between two batches, as the real loop does. The duration of a batch comes from a cost curve,
with jitter and drift. Nothing here waits or reads a clock.
"""

import heapq
import itertools
import math
import random
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gateway.engine.slo import Estimator
from runtimes.layouts import TensorGroup, by_identity, new_layout
from runtimes.request_frames import RequestGroup
from runtimes.status_page import StatusPage, create
from runtimes.tensors import from_array
from runtimes.worker.batcher import Batcher, Batching
from runtimes.worker.pending import Batch

Cost = Callable[[int], float]
_TENSOR = from_array("x", np.zeros((1, 1), np.float32))
_INPUTS = TensorGroup(by_identity(new_layout("s", (), [_TENSOR])), [1], memoryview(_TENSOR.data), 0)
_WINDOW = 2  # batches that a front may have at a worker

COSTS: dict[str, Cost] = {
    "fixed and linear": lambda rows: 0.004 + 0.0005 * rows,
    "linear": lambda rows: 0.0005 + 0.002 * rows,
    "steps of eight": lambda rows: 0.003 + 0.004 * math.ceil(rows / 8),
    "superlinear": lambda rows: 0.003 + 0.001 * rows + 0.00015 * rows**2,
    "slow": lambda rows: 0.080 + 0.005 * rows,
}


def best_rate(cost: Cost, max_rows: int) -> tuple[float, int]:
    """Return the rows per second of the best fixed batch size, and that size."""
    return max((rows / cost(rows), rows) for rows in range(1, max_rows + 1))


def poisson(rate: float, seconds: float, rng: random.Random) -> Iterator[float]:
    now = rng.expovariate(rate)
    while now < seconds:
        yield now
        now += rng.expovariate(rate)


def on_off(rate: float, seconds: float, rng: random.Random) -> Iterator[float]:
    """Poisson arrivals at three times the rate for a third of the time, in phases of random length."""
    now = 0.0
    while now < seconds:
        ends = now + rng.expovariate(1 / (60 / rate))
        while (now := now + rng.expovariate(3 * rate)) < min(ends, seconds):
            yield now
        now = max(ends, 0) + rng.expovariate(1 / (120 / rate))


def clumps(rate: float, seconds: float, rng: random.Random) -> Iterator[float]:
    """Groups of 1 to 15 simultaneous requests, eight on average; the groups are a Poisson process."""
    for now in poisson(rate / 8, seconds, rng):
        yield from itertools.repeat(now, rng.randint(1, 15))


ARRIVALS = {"Poisson": poisson, "on and off": on_off, "clumps": clumps}


@dataclass
class Count:
    """Counts of requests.

    met            answered in time
    late           admitted but not answered in time
    computed_late  those of `late` that ran nevertheless
    """

    offered: int = 0
    rejected: int = 0
    met: int = 0
    late: int = 0
    computed_late: int = 0
    possible: int = 0
    batches: int = 0

    @property
    def admitted(self) -> int:
        return self.met + self.late

    def __add__(self, other: "Count") -> "Count":
        return Count(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(eq=False)
class Request:
    id: int
    front: "Front"
    arrived: float
    deadline: float


class Worker:
    def __init__(self, max_rows: int, target: float, page: StatusPage) -> None:
        self.page = page
        self.batcher = Batcher(Batching(max_rows, frozenset({"s"}), target=target))
        self.inbox: list[Request] = []
        self.requests: dict[int, Request] = {}
        self.busy = False


@dataclass(eq=False)
class Front:
    estimators: list[Estimator]
    in_flight: list[int]
    waiting: deque[Request] = field(default_factory=deque)

    def publish_rows(self) -> None:
        for estimator, rows in zip(self.estimators, self.in_flight, strict=True):
            estimator.publish_rows(rows + len(self.waiting) / len(self.estimators))


def fluid(arrivals: Iterable[float], rate: float, target: float) -> int:
    """Return an upper bound of the requests answered in time: that of a server which always has its best rate."""
    answered, backlog_s, before = 0, 0.0, 0.0
    for now in arrivals:
        backlog_s, before = max(backlog_s - (now - before), 0.0), now
        if backlog_s + 1 / rate <= target:
            answered += 1
            backlog_s += 1 / rate
    return answered


@contextmanager
def _page() -> Iterator[StatusPage]:
    with tempfile.NamedTemporaryFile() as file:
        create(file.name)
        page = StatusPage(file.name)
        yield page
        page.close()


@dataclass
class World:
    cost: Cost
    target: float
    max_rows: int = 32
    fronts: int = 1
    instances: int = 1
    jitter: float = 0.05  # standard deviation of the logarithm of a batch's duration
    drift: float = 0.0  # share by which the model becomes slower and faster
    period: float = 10.0  # of the drift, in hundreds of batches of eight rows
    reject_early: bool = True
    seed: int = 0
    warm: Sequence[int] = ()  # batch sizes that ran during warm-up

    def run(self, arrivals: Iterable[float]) -> Count:
        """Run until all requests have been answered or shed."""
        self._rng = random.Random(self.seed)
        self._count = Count()
        self._ids = itertools.count(1)
        self._ends: list[tuple[float, int, Worker, Batch, list[Request], float]] = []  # a heap of running batches
        with ExitStack() as stack:
            pages = [stack.enter_context(_page()) for _ in range(self.instances)]
            self._workers = [Worker(self.max_rows, self.target, page) for page in pages]
            for worker, rows in itertools.product(self._workers, self.warm):
                worker.batcher.seed_cost(rows, self.cost(rows))
            self._fronts = [
                Front([Estimator(page, number) for page in pages], [0] * self.instances)
                for number in range(self.fronts)
            ]
            for now in arrivals:
                self._finish_until(now)
                self._arrive(now)
            self._finish_until(math.inf)
        return self._count

    def _arrive(self, now: float) -> None:
        count, front = self._count, self._rng.choice(self._fronts)
        count.offered += 1
        request = Request(next(self._ids), front, now, now + self.target)
        number = min(range(self.instances), key=front.in_flight.__getitem__)
        if self.reject_early and front.estimators[number].would_be_late(1, now, request.deadline):
            count.rejected += 1
            return
        front.waiting.append(request)
        self._pump(front, now)
        front.publish_rows()

    def _pump(self, front: Front, now: float) -> None:
        while front.waiting:
            number = min(range(self.instances), key=front.in_flight.__getitem__)
            if front.in_flight[number] >= _WINDOW * self.max_rows:
                return
            request, worker = front.waiting.popleft(), self._workers[number]
            if request.deadline <= now:
                self._count.late += 1
                continue
            front.in_flight[number] += 1
            worker.inbox.append(request)
            if not worker.busy:
                self._turn(worker, now)

    def _turn(self, worker: Worker, now: float) -> None:
        """Run one turn of the worker's loop, up to the start of a batch."""
        for request in worker.inbox:
            worker.requests[request.id] = request
            worker.batcher.add(None, RequestGroup((request.id,), (request.deadline,), (0,), _INPUTS), False, now)
        worker.inbox = []
        shed = [worker.requests.pop(pending.id) for pending in worker.batcher.take_expired(now)]
        batch, _ = worker.batcher.next(now)
        worker.busy = batch is not None
        if batch is not None:
            spread = math.exp(self._rng.gauss(0, self.jitter))
            wave = 1 + self.drift * math.sin(now / (self.period * 100 * self.cost(8)) * 2 * math.pi)
            ends = now + self.cost(len(batch)) * spread * wave
            requests = [worker.requests.pop(number) for number in batch.ids]
            self._count.batches += 1
            worker.page.set_busy([], now)
            worker.page.set_pace(worker.batcher.pace(batch))
            heapq.heappush(self._ends, (ends, next(self._ids), worker, batch, requests, now))
        number = self._workers.index(worker)
        for request in shed:
            # Shed by the worker before it ran, but admitted by the front.
            self._count.late += 1
            request.front.in_flight[number] -= 1
        for request in shed:
            self._pump(request.front, now)
            request.front.publish_rows()

    def _finish_until(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            ended, _, worker, batch, requests, started = heapq.heappop(self._ends)
            worker.batcher.observe(batch.key, batch.rows, ended - started)
            worker.busy = False
            number = self._workers.index(worker)
            worker.page.set_idle()
            for request in requests:
                front = request.front
                front.in_flight[number] -= 1
                if ended <= request.deadline:
                    self._count.met += 1
                else:
                    self._count.late += 1
                    self._count.computed_late += 1
            self._turn(worker, ended)
            for front in self._fronts:
                self._pump(front, ended)
                front.publish_rows()


def measure(
    cost: str,
    arrivals: str,
    load: float,
    seeds: Iterable[int],
    multiple: float = 3.0,
    requests: int = 2000,
    **options: Any,
) -> Count:
    """Return the sum of the counts over all seeds.

    load      share of the best offline throughput
    multiple  the target, as a multiple of the best batch's duration
    """
    rate, best = best_rate(COSTS[cost], 32)
    rate *= options.get("instances", 1)
    target = multiple * COSTS[cost](best)
    total = Count()
    for seed in seeds:
        times = list(ARRIVALS[arrivals](rate * load, requests / rate / load, random.Random(seed)))
        count = World(COSTS[cost], target, seed=seed, **options).run(times)
        count.possible = fluid(times, rate, target)
        total += count
    return total
