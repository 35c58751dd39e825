"""`modelport score --engine ray`: actors, each with a worker of its own, to which batches are sent."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from gateway.cluster.location import absolute
from gateway.cluster.packed import pack, score_packed, unpack
from gateway.cluster.ray_data import for_this_actor
from gateway.embedded.options import ModelSpec
from gateway.score.errors import CannotScore
from gateway.score.scorer import Scored, ScoreOptions
from gateway.score.sources.source import first_line

# Batches at an actor: those that it scores, and one that waits, because results are taken in order.
_PER_ACTOR = 3
# Batches that an actor scores: one that the model runs, and one whose inputs are made, so that the model never waits.
_AT_ONCE = 2


class BatchActor:
    """What runs in an actor. Ray restarts it, and repeats what it was doing, if its process or its node is lost."""

    def __init__(self, spec: ModelSpec, options: ScoreOptions) -> None:
        self._spec, self._options = for_this_actor(spec), options

    def score(self, packed: bytes) -> bytes:
        return next(score_packed(self._spec, self._options, [packed]))


class RayEngine:
    """Scores batches in as many actors as there are free CPUs for the threads of each."""

    def __init__(self, ray: Any, spec: ModelSpec, options: ScoreOptions) -> None:
        self._ray = ray
        cpus = spec.threads or 1
        count = max(1, int(ray.available_resources().get("CPU", 1) // cpus))
        lives = {"max_restarts": -1, "max_task_retries": -1}
        actor = ray.remote(num_cpus=cpus, max_concurrency=_AT_ONCE, **lives)(BatchActor)
        self._waiting: dict[Any, list[Any]] = {actor.remote(spec, options): [] for _ in range(count)}
        self.in_flight = _PER_ACTOR * count

    def submit(self, batch: pa.RecordBatch) -> "RayTask":
        for actor, tasks in self._waiting.items():
            if tasks:
                _, self._waiting[actor] = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)
        actor = min(self._waiting, key=lambda each: len(self._waiting[each]))
        task = actor.score.remote(pack(batch))
        self._waiting[actor].append(task)
        return RayTask(self._ray, task)

    def close(self) -> None:
        for actor in self._waiting:
            self._ray.kill(actor)


class RayTask:
    def __init__(self, ray: Any, task: Any) -> None:
        self._ray, self._task = ray, task

    def result(self) -> Scored:
        try:
            return unpack(self._ray.get(self._task))
        except self._ray.exceptions.RayError as error:
            raise CannotScore(f"Ray could not score a batch: {first_line(error)}") from None

    def cancel(self) -> None:
        self._ray.cancel(self._task)


@contextmanager
def ray_engine(address: str, spec: ModelSpec, options: ScoreOptions) -> Iterator[RayEngine]:
    """Connect to a cluster, or start one on this machine. Raises CannotScore.

    address  as in ray.init, such as auto, HOST:6379 or ray://HOST:10001; "": RAY_ADDRESS, or a cluster of this machine
    """
    try:
        import ray
    except ImportError:
        raise CannotScore("--engine ray needs the package ray: pip install 'modelport[ray]'") from None
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address or None, **quiet if address else {**quiet, "include_dashboard": False})
    except Exception as error:  # Ray raises many kinds, and also Exception itself
        where = f"cannot connect to '{address}'" if address else "did not start"
        raise CannotScore(f"Ray {where}: {first_line(error)}") from error
    engine = RayEngine(ray, absolute(spec), options)
    try:
        yield engine
    finally:
        engine.close()
        ray.shutdown()
