"""Rows per second of modelport score on Spark and on Ray, beside the local engine, on the same cores.

    python -m benchmarks.score_engines [--rounds 3] [--rows 8000] [--engines spark,table,ray,data]

The model is a small network of convolutions, at least a millisecond a row, over pictures of 12 kB from a Parquet file.
Each engine has as many processes with one thread as there are cores: instances, executors, actors. "table" is
modelport.spark.score, with Spark itself reading and writing Parquet. "data" is map_batches of Ray Data, likewise. Each
takes turns with the local engine, in a process of its own, and each ratio is that of neighbors in one round. Reading
and writing is part of the time. A first round does not count: sessions start, models are loaded, and the JVMs compile
what they run. Actors of Ray Data end with each job, so that "data" loads the model each time.

Rows per second need a machine that has nothing else to do. The CPU time of a row, of all processes together, does not.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import cpu_seconds

_SIDE, _CHANNELS = 32, 128
_ENGINES = "spark,table,ray,data"


def _model(path: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    sizes = {"w1": (_CHANNELS, 3, 3, 3), "w2": (_CHANNELS, _CHANNELS, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", _CHANNELS])],
        [numpy_helper.from_array(random.normal(size=size).astype(np.float32), name) for name, size in sizes.items()],
    )
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def _table(path: Path, rows: int) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    pixels = np.random.default_rng(0).random((rows, 3 * _SIDE * _SIDE), np.float32)
    values = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), pixels.shape[1])
    pq.write_table(pa.table({"id": pa.array(range(rows)), "x": values}), path, row_group_size=256)


@contextmanager
def _spark(cores: int, spec: Any, options: Any) -> Iterator[Any]:
    from gateway.cluster.spark_engine import JVM_OPTIONS, SparkEngine
    from tests.support.spark_session import spark_cluster

    with spark_cluster(cores, jvm_options=JVM_OPTIONS) as session:
        yield SparkEngine(session.sparkContext, spec, options)


@contextmanager
def _ray(cores: int, spec: Any, options: Any) -> Iterator[Any]:
    import ray

    from gateway.cluster.ray_engine import RayEngine

    ray.init("local", num_cpus=cores, include_dashboard=False, object_store_memory=400 << 20, log_to_driver=False)
    yield RayEngine(ray, spec, options)
    ray.shutdown()


class _Watch:
    """cpu: the CPU seconds from the first row to the last, of which there are `rows`."""

    def __init__(self, rows: int) -> None:
        self._rows, self.cpu = rows, 0.0
        self._before = dict[int, float]()

    def begin(self, *arguments: object) -> None:
        self._before = _cpu()

    def advance(self, rows: int, bad: int, position: int) -> None:
        if rows == self._rows:
            self.cpu = _since(self._before)


def _cpu() -> dict[int, float]:
    """Return the CPU seconds of this process and of each below it."""
    found = dict[int, float]()
    for each in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(OSError):  # it has just ended
            found[each.pid] = cpu_seconds(each.pid)
    return found


def _since(before: dict[int, float]) -> float:
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in _cpu().items())


def _command(folder: Path, name: str, spec: Any, options: Any, engine: Any, rows: int) -> tuple[float, float]:
    """Return the seconds, and the CPU seconds, that this took."""
    from gateway.score.run import ScoreRequest, score

    request = ScoreRequest(spec, (str(folder / "table.parquet"),), folder / f"{name}.parquet", options, overwrite=True)
    watch = _Watch(rows)
    summary = score(request, watch, None if engine is None else lambda *_: nullcontext(engine))
    assert (summary.scored, summary.bad) == (rows, 0)
    return summary.seconds, watch.cpu


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    start, before = time.monotonic(), _cpu()
    work()
    return time.monotonic() - start, _since(before)


def _measure(folder: Path, rounds: int, rows: int, engine: str) -> None:
    from gateway.score.scorer import ScoreOptions
    from modelport import ModelSpec
    from tests.support.spark_session import spark_cluster

    cores = len(os.sched_getaffinity(0))
    spec, options = ModelSpec(str(folder / "model"), threads=1), ScoreOptions(keep=("id",))
    several = ModelSpec(spec.location, threads=1, instances=cores)

    def beside_local(measure: Callable[[], tuple[float, float]]) -> None:
        local = partial(_command, folder, "local", several, options, None, rows)
        _take_turns(rounds, rows, {"local": local, engine: measure})

    if engine == "spark":
        with _spark(cores, spec, options) as spark:
            beside_local(lambda: _command(folder, engine, spec, options, spark, rows))
    elif engine == "table":
        with spark_cluster(cores) as session:
            beside_local(lambda: _timed(lambda: _of_spark(folder, session, spec)))
    elif engine == "ray":
        with _ray(cores, spec, options) as actors:
            beside_local(lambda: _command(folder, engine, spec, options, actors, rows))
    else:
        beside_local(lambda: _timed(lambda: _of_ray(folder, cores, spec)))


def _of_spark(folder: Path, session: Any, spec: Any) -> None:
    import modelport.spark

    scored = modelport.spark.score(session.read.parquet(str(folder / "table.parquet")), spec, keep=["id"])
    scored.write.mode("overwrite").parquet(str(folder / "spark-table"))


def _of_ray(folder: Path, cores: int, spec: Any) -> None:
    import ray

    import modelport.ray

    if not ray.is_initialized():
        # Reading and writing need CPUs that Ray has not assigned to actors.
        ray.init(
            "local", num_cpus=2 * cores, include_dashboard=False, object_store_memory=400 << 20, log_to_driver=False
        )
    table = ray.data.read_parquet(str(folder / "table.parquet"), override_num_blocks=4 * cores)
    scored = table.map_batches(
        modelport.ray.Scorer,
        fn_constructor_args=(spec,),
        fn_constructor_kwargs={"keep": ["id"]},
        batch_format="pyarrow",
        batch_size=256,
        compute=ray.data.ActorPoolStrategy(size=cores),
        num_cpus=1,
    )
    scored.write_parquet(str(folder / "ray-data"), mode=ray.data.SaveMode.OVERWRITE)


def _take_turns(rounds: int, rows: int, measured: dict[str, Callable[[], tuple[float, float]]]) -> None:
    found = dict[str, list[tuple[float, float]]]()
    for turn in range(rounds + 1):
        for name, measure in measured.items():
            seconds, cpu = measure()
            print(turn, name, f"{rows / seconds:.0f} rows/s, {cpu / rows * 1e3:.3f} ms", file=sys.stderr, flush=True)
            if turn:
                found.setdefault(name, []).append((rows / seconds, cpu / rows * 1e3))
    lines = []
    for name, each in found.items():
        (rate, cpu), (local_rate, local_cpu) = zip(*each, strict=True), zip(*found["local"], strict=True)
        shares = [ratio(rate, local_rate), ratio(local_cpu, cpu)]
        lines.append([name, median_and_spread(rate, 0), median_and_spread(cpu, 2), *shares])
    head = ["engine", "rows per second", "CPU ms per row", "rows, of local's", "rows per CPU time, of local's"]
    print(table(head, lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--engines", default=_ENGINES, help=f"default: {_ENGINES}")
    parser.add_argument("--inside", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        _measure(options.inside, options.rounds, options.rows, options.engines)
        return
    from tests.support.client_environments import engines_python

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        _model(folder / "model" / "1" / "model.onnx")
        _table(folder / "table.parquet", options.rows)
        command = [str(engines_python()), "-m", "benchmarks.score_engines", "--inside", text]
        command += ["--rounds", str(options.rounds), "--rows", str(options.rows), "--engines"]
        for engine in options.engines.split(","):
            subprocess.run([*command, engine], check=True)


if __name__ == "__main__":
    main()
