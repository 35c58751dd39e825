"""`modelport score --engine spark`: a job scores some batches for each core, in the workers of executors."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa

from gateway.cluster.location import absolute
from gateway.cluster.packed import pack, score_packed, unpack
from gateway.cluster.spark import for_this_task
from gateway.embedded.options import ModelSpec
from gateway.score.errors import CannotScore
from gateway.score.scorer import Scored, ScoreOptions
from gateway.score.sources.source import first_line

# Batches of a task. A job costs some tens of milliseconds, whatever it does. Spark sends a task as one message of up to
# 128 MiB (spark.rpc.message.maxSize), and a batch has 8 MiB unless the user asks for more rows.
_PER_TASK = 4
# Batches of all jobs together. It bounds the memory of a driver with a large cluster.
_MOST_BATCHES = 512
# Spark's JVMs only pass batches on, so the second compiler spends more time than its code saves. Nothing about garbage
# collectors: a JVM does not start if a user's own options name another one.
JVM_OPTIONS = "-XX:TieredStopAtLevel=1"
# Jobs at a time: one that runs, and one whose tasks start where cores are free.
_JOBS = 2


class SparkEngine:
    """Scores batches in the executors of a SparkContext."""

    def __init__(self, context: Any, spec: ModelSpec, options: ScoreOptions) -> None:
        self._context = context
        self._task = partial(_score, spec, options)
        self._threads = ThreadPoolExecutor(_JOBS, "spark-job")
        self._collected: list[SparkBatch] = []

    @property
    def in_flight(self) -> int:
        return min(_JOBS * _PER_TASK * self._cores, _MOST_BATCHES)

    def submit(self, batch: pa.RecordBatch) -> "SparkBatch":
        """Add it to the next job, which begins when it is full, or when somebody waits for one of its batches."""
        added = SparkBatch(self.begin, pack(batch))
        self._collected.append(added)
        if len(self._collected) >= self.in_flight // _JOBS:
            self.begin()
        return added

    def begin(self) -> None:
        """Start the job of what was collected."""
        batches, self._collected = self._collected, []
        for each in batches:
            each.begun = True
        self._threads.submit(self._run, batches)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._context.cancelAllJobs()

    @property
    def _cores(self) -> int:
        return int(self._context.defaultParallelism)  # those of all executors, which may come and go

    def _run(self, batches: "list[SparkBatch]") -> None:
        try:
            packed = [each.packed for each in batches]
            # A partition is one message to the Python process, so a batch has its own: the model begins with the first.
            rdd = self._context.parallelize(packed, len(packed)).coalesce(min(self._cores, len(packed)))
            results = list(map(bytes, rdd.mapPartitions(self._task).collect()))
            found = list(zip(batches, results, strict=True))
        except Exception as error:
            for each in batches:
                each.found.set_exception(error)
        else:
            for each, result in found:
                each.found.set_result(result)


class SparkBatch:
    """begin: starts the job that will have it. begun: whether that was started. found: the packed result."""

    def __init__(self, begin: Callable[[], None], packed: bytes) -> None:
        self._begin, self.packed = begin, packed
        self.begun = False
        self.found = Future[bytes]()

    def result(self) -> Scored:
        if not self.begun:
            self._begin()
        try:
            packed = self.found.result()
        except Exception as error:  # of the JVM, of the way to it, or of a session that has ended
            reason = str(getattr(error, "java_exception", "")).partition("\n")[0] or first_line(error)
            raise CannotScore(f"Spark could not score a batch: {reason}") from None
        return unpack(packed)

    def cancel(self) -> None:
        """Its job ends with the engine."""


@contextmanager
def spark_engine(master: str, spec: ModelSpec, options: ScoreOptions) -> Iterator[SparkEngine]:
    """Use the session of spark-submit, or start one. Raises CannotScore.

    master  such as spark://HOST:7077, local[4] or yarn; "": that of spark-submit, or all cores of this machine
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise CannotScore("--engine spark needs the package pyspark, of the release that the cluster has") from None
    # Otherwise, executors of this machine would run the first python3 in PATH.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("modelport score").config("spark.ui.showConsoleProgress", "false")
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if master or not submitted:
        builder = builder.master(master or "local[*]")
    if not submitted and (master or "local").startswith("local"):  # those of a cluster are its administrator's
        for each in ("driver", "executor"):
            builder = builder.config(f"spark.{each}.defaultJavaOptions", JVM_OPTIONS)
    try:
        session = builder.getOrCreate()
    except Exception as error:  # what the JVM raises, and a JVM that does not start
        raise CannotScore(f"Spark did not start: {first_line(error)}") from error
    session.sparkContext.setLogLevel("ERROR")
    engine = SparkEngine(session.sparkContext, absolute(spec), options)
    try:
        yield engine
    finally:
        engine.close()
        session.stop()


def _score(spec: ModelSpec, options: ScoreOptions, packed: Iterable[bytes]) -> Iterator[bytes]:
    return score_packed(for_this_task(spec), options, packed)
