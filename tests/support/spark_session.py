"""A cluster of Spark on this machine, for scripts that run in its environment."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil


@contextmanager
def spark_cluster(count: int = 2, environment: Mapping[str, str] | None = None, jvm_options: str = "") -> Iterator[Any]:
    """Start executors with one core each, and yield the session. environment: variables of the executors."""
    os.environ["PYSPARK_PYTHON"] = sys.executable  # otherwise, executors run the first python3 in PATH
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(f"local-cluster[{count},1,1024]").config("spark.log.level", "ERROR")
    for name, value in {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        **{f"spark.{each}.defaultJavaOptions": jvm_options for each in ("driver", "executor") if jvm_options},
        "spark.sql.shuffle.partitions": "4",
        **{f"spark.executorEnv.{key}": each for key, each in (environment or {}).items()},
    }.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    try:
        yield session
    finally:
        session.stop()


def executors(driver: int | None = None) -> list[psutil.Process]:
    """The executors of a process's session; by default, of this one's."""
    children = psutil.Process(driver).children(recursive=True)
    return [each for each in children if "CoarseGrainedExecutorBackend" in " ".join(_command(each))]


def workers(executor: psutil.Process) -> list[psutil.Process]:
    """The processes below an executor that have models."""
    below = executor.children(recursive=True)
    return [each for each in below if any(word.endswith("runtimes/worker/__main__.py") for word in _command(each))]


def kill(process: psutil.Process) -> None:
    process.send_signal(signal.SIGKILL)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has just ended
        return []
