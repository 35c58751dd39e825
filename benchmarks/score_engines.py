"""Rows per second of modelport score on Spark and on Ray, beside the local engine, on the same cores.

    python -m benchmarks.score_engines [--rounds 3] [--rows 8000] [--engines spark,table,ray,data]

The model is a small network of convolutions, at least a millisecond a row, over pictures of 12 kB from a Parquet file.
Each engine has as many processes with one thread as there are cores: instances, executors, actors. "table" is
modelport.spark.score, with Spark itself reading and writing Parquet. "data" is map_batches of Ray Data, likewise.
Beside these two is the bare framework in a function that users write by hand (references/bare_engines.py), so that what
it lacks of the local engine is what Spark and Ray take themselves. Each takes turns with the local engine, in a process
of its own, and each ratio is that of neighbors in one round. Reading and writing is part of the time. A first round
does not count: sessions start, models are loaded, and the JVMs compile what they run. Actors of Ray Data end with each
job, so that "data" loads the model each time.

"After the start" is the difference between a job with all rows and one with a quarter of them. Rows per second need a
machine that has nothing else to do. The CPU time of a row, of all processes together, does not.
"""

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.report import median_and_spread, ratio, table

_SIDE, _CHANNELS = 32, 128
_PR_SET_CHILD_SUBREAPER = 36
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


def _counts(rows: int) -> dict[str, int]:
    """Return the tables: the name of each, and its rows."""
    return {"few": rows // 4, "all": rows}


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


def _cpu() -> float:
    """Return the CPU seconds of this process and of all that it has below it or had, in ticks of 10 ms."""
    found = 0.0
    for each in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.Error):  # it has just ended
            times = each.cpu_times()
            found += times.user + times.system + times.children_user + times.children_system
    return found


def _inherit_orphans() -> None:
    """Have processes whose parent ends, such as an actor's worker, count as this process's."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class _Watch:
    """cpu: the CPU seconds from the first row to the last, of which there are `rows`."""

    def __init__(self, rows: int) -> None:
        self._rows, self.cpu = rows, 0.0
        self._before = 0.0

    def begin(self, *arguments: object) -> None:
        self._before = _cpu()

    def advance(self, rows: int, bad: int, position: int) -> None:
        if rows == self._rows:
            self.cpu = _cpu() - self._before


# Scores one of the job's tables, and returns the seconds and the CPU seconds that this took.
Measure = Callable[["_Job"], tuple[float, float]]


class _Job(NamedTuple):
    folder: Path
    source: Path
    rows: int


def _command(name: str, spec: Any, options: Any, engine: Any, job: _Job) -> tuple[float, float]:
    from gateway.score.run import ScoreRequest, score

    output = job.folder / f"{name}.parquet"
    request = ScoreRequest(spec, (str(job.source),), output, options, overwrite=True)
    watch = _Watch(job.rows)
    summary = score(request, watch, None if engine is None else lambda *_: nullcontext(engine))
    assert (summary.scored, summary.bad) == (job.rows, 0)
    return summary.seconds, watch.cpu


def _timed(work: Callable[[_Job], object], job: _Job) -> tuple[float, float]:
    start, before = time.monotonic(), _cpu()
    work(job)
    return time.monotonic() - start, _cpu() - before


def _measure(folder: Path, rounds: int, rows: int, engine: str) -> None:
    from benchmarks.references import bare_engines
    from gateway.score.scorer import ScoreOptions
    from modelport import ModelSpec
    from tests.support.spark_session import spark_cluster

    _inherit_orphans()
    cores = len(os.sched_getaffinity(0))
    spec, options = ModelSpec(str(folder / "model"), threads=1), ScoreOptions(keep=("id",))
    several = ModelSpec(spec.location, threads=1, instances=cores)
    bare = (str(folder / "model" / "1" / "model.onnx"), (3, _SIDE, _SIDE))

    def beside_local(**measured: Measure) -> None:
        local = partial(_command, "local", several, options, None)
        jobs = [_Job(folder, folder / f"{name}.parquet", count) for name, count in _counts(rows).items()]
        _take_turns(rounds, jobs, {"local": local, **measured})

    if engine == "spark":
        with _spark(cores, spec, options) as spark:
            beside_local(spark=partial(_command, engine, spec, options, spark))
    elif engine == "table":
        from modelport.spark import score

        ours = partial(score, model=spec, keep=["id"])

        def by_hand(table: Any) -> Any:
            return table.mapInArrow(bare_engines.InPartition(*bare), "id long, y array<float>")

        with spark_cluster(cores) as session:
            beside_local(
                table=partial(_timed, partial(_of_spark, session, ours)),
                bare_table=partial(_timed, partial(_of_spark, session, by_hand)),
            )
    elif engine == "ray":
        with _ray(cores, spec, options) as actors:
            beside_local(ray=partial(_command, engine, spec, options, actors))
    else:
        from modelport.ray import Scorer

        beside_local(
            data=partial(_timed, partial(_of_ray, cores, Scorer, (spec,), {"keep": ["id"]})),
            bare_data=partial(_timed, partial(_of_ray, cores, bare_engines.InActor, bare, {})),
        )


def _of_spark(session: Any, score: Callable[[Any], Any], job: _Job) -> None:
    table = session.read.parquet(str(job.source))
    score(table).write.mode("overwrite").parquet(str(job.folder / "spark-table"))


def _of_ray(cores: int, actor: type, arguments: tuple[Any, ...], more: dict[str, Any], job: _Job) -> None:
    import ray

    if not ray.is_initialized():
        # Reading and writing need CPUs that Ray has not assigned to actors.
        ray.init(
            "local", num_cpus=2 * cores, include_dashboard=False, object_store_memory=400 << 20, log_to_driver=False
        )
    table = ray.data.read_parquet(str(job.source), override_num_blocks=4 * cores)
    scored = table.map_batches(
        actor,
        fn_constructor_args=arguments,
        fn_constructor_kwargs=more,
        batch_format="pyarrow",
        batch_size=256,
        compute=ray.data.ActorPoolStrategy(size=cores),
        num_cpus=1,
    )
    scored.write_parquet(str(job.folder / "ray-data"), mode=ray.data.SaveMode.OVERWRITE)


class _Figures(NamedTuple):
    """rate: rows per second. after_start: the same without the start. cpu: CPU milliseconds of a row."""

    rate: float
    after_start: float
    cpu: float


def _take_turns(rounds: int, jobs: Sequence[_Job], measured: dict[str, Measure]) -> None:
    """jobs: that with a part of the rows, and that with all of them."""
    found = dict[str, list[_Figures]]()
    for turn in range(rounds + 1):
        for name, measure in measured.items():
            (few_s, _), (seconds, cpu) = map(measure, jobs)
            few, rows = (job.rows for job in jobs)
            figures = _Figures(rows / seconds, (rows - few) / (seconds - few_s), cpu / rows * 1e3)
            print(turn, name, *(f"{each:.2f}" for each in figures), file=sys.stderr, flush=True)
            if turn:
                found.setdefault(name, []).append(figures)
    local = _Figures(*zip(*found["local"], strict=True))
    lines = []
    for name, each in found.items():
        own = _Figures(*zip(*each, strict=True))
        of_local = [ratio(own.rate, local.rate), ratio(own.after_start, local.after_start), ratio(local.cpu, own.cpu)]
        rates = [median_and_spread(own.rate, 0), median_and_spread(own.after_start, 0)]
        lines.append([name, *rates, median_and_spread(own.cpu, 2), *of_local])
    head = ["engine", "rows/s", "after the start", "CPU ms per row"]
    head += ["rows/s, of local's", "after the start, of local's", "rows per CPU time, of local's"]
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
    from benchmarks.environments import python_of
    from benchmarks.references import bare_engines
    from tests.support.client_environments import engines_python

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        _model(folder / "model" / "1" / "model.onnx")
        for name, count in _counts(options.rows).items():
            _table(folder / f"{name}.parquet", count)
        command = [str(engines_python()), "-m", "benchmarks.score_engines", "--inside", text]
        command += ["--rounds", str(options.rounds), "--rows", str(options.rows), "--engines"]
        # The bare functions need the framework in the same process; ours load it in its own environment.
        (packages,) = python_of("onnx").parent.parent.glob("lib/python3*/site-packages")
        environment = os.environ | {bare_engines.PACKAGES: str(packages)}
        for engine in options.engines.split(","):
            subprocess.run([*command, engine], check=True, env=environment)


if __name__ == "__main__":
    main()
