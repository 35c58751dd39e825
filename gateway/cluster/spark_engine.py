"""`modelport score --engine spark`: each batch is a job of one task, which an executor runs in its own worker."""

import os
import sys
from collections.abc import Iterator
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

# Jobs that may wait for an executor at a time. It bounds the memory of a driver with a large cluster.
_MOST_JOBS = 256


class SparkEngine:
    """Scores batches in the executors of a SparkContext."""

    def __init__(self, context: Any, spec: ModelSpec, options: ScoreOptions) -> None:
        self._context = context
        self._task = partial(_score, spec, options)
        self._jobs = ThreadPoolExecutor(_MOST_JOBS, "spark-job")

    @property
    def in_flight(self) -> int:
        # As many cores as there are: executors may come and go.
        return min(2 * int(self._context.defaultParallelism), _MOST_JOBS)

    def submit(self, batch: pa.RecordBatch) -> "SparkJob":
        return SparkJob(self._jobs.submit(self._run, pack(batch)))

    def close(self) -> None:
        self._jobs.shutdown(wait=False, cancel_futures=True)
        self._context.cancelAllJobs()

    def _run(self, packed: bytes) -> bytes:
        (result,) = self._context.parallelize([packed], 1).map(self._task).collect()
        return bytes(result)


class SparkJob:
    def __init__(self, job: "Future[bytes]") -> None:
        self._job = job

    def result(self) -> Scored:
        from py4j.protocol import Py4JError

        try:
            return unpack(self._job.result())
        except Py4JError as error:
            reason = str(getattr(error, "java_exception", error)).splitlines()[0]
            raise CannotScore(f"Spark could not score a batch: {reason}") from None

    def cancel(self) -> None:
        self._job.cancel()


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
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    engine = SparkEngine(session.sparkContext, absolute(spec), options)
    try:
        yield engine
    finally:
        engine.close()
        session.stop()


def _score(spec: ModelSpec, options: ScoreOptions, packed: bytes) -> bytes:
    return score_packed(for_this_task(spec), options, packed)
