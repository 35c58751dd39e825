"""Rows per second of modelport score on Spark and on Ray, beside the local engine, on the same cores.

    python -m benchmarks.score_engines [--rounds 3] [--rows 1500]

The model is a small network of convolutions, at least a millisecond a row, over pictures of 12 kB from a Parquet file.
Each engine has as many processes with one thread as there are cores: instances, executors, actors. "table" is
modelport.spark.score, with Spark itself reading and writing Parquet. They take turns, and each ratio is that of
neighbors in one round. Sessions are started, and models loaded, before; reading and writing is part of the time.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.report import median_and_spread, ratio, table

_SIDE, _CHANNELS = 32, 80


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
    from gateway.cluster.spark_engine import SparkEngine
    from tests.support.spark_session import spark_cluster

    with spark_cluster(cores) as session:
        yield session, SparkEngine(session.sparkContext, spec, options)


@contextmanager
def _ray(cores: int, spec: Any, options: Any) -> Iterator[Any]:
    import ray

    from gateway.cluster.ray_engine import RayEngine

    ray.init(num_cpus=cores, include_dashboard=False, object_store_memory=400 << 20, log_to_driver=False)
    yield RayEngine(ray, spec, options)
    ray.shutdown()


class _Silent:
    def begin(self, *arguments: object) -> None: ...

    def advance(self, *arguments: object) -> None: ...


def _command(folder: Path, name: str, spec: Any, options: Any, engine: Any) -> tuple[int, float]:
    """Return the rows that were scored, and the seconds that this took."""
    from gateway.score.run import ScoreRequest, score

    request = ScoreRequest(spec, (str(folder / "table.parquet"),), folder / f"{name}.parquet", options, overwrite=True)
    summary = score(request, _Silent(), None if engine is None else lambda *_: nullcontext(engine))
    assert summary.bad == 0
    return summary.scored, summary.seconds


def _measure(folder: Path, rounds: int, rows: int) -> None:
    import modelport.spark
    from gateway.score.scorer import ScoreOptions
    from modelport import ModelSpec

    cores = len(os.sched_getaffinity(0))
    spec, options = ModelSpec(str(folder / "model"), threads=1), ScoreOptions(keep=("id",))
    local = ModelSpec(spec.location, threads=1, instances=cores)
    found: dict[str, list[float]] = {"local": [], "spark": [], "table": [], "ray": []}
    with ExitStack() as stack:
        session, spark = stack.enter_context(_spark(cores, spec, options))
        engines = {"local": None, "spark": spark, "ray": stack.enter_context(_ray(cores, spec, options))}
        for turn in range(rounds + 1):  # the first one loads models
            for name in found:
                since = time.monotonic()
                if name == "table":
                    frame = session.read.parquet(str(folder / "table.parquet")).repartition(4 * cores)
                    scored = modelport.spark.score(frame, spec, keep=["id"])
                    scored.write.mode("overwrite").parquet(str(folder / "spark-table"))
                    count, seconds = rows, time.monotonic() - since
                else:
                    count, seconds = _command(folder, name, local if name == "local" else spec, options, engines[name])
                if turn:
                    found[name].append(count / seconds)
    lines = [[name, median_and_spread(each, 0), ratio(each, found["local"])] for name, each in found.items()]
    print(table(["engine", "rows per second", "beside the local engine"], lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--inside", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        _measure(options.inside, options.rounds, options.rows)
        return
    from tests.support.client_environments import engines_python

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        _model(folder / "model" / "1" / "model.onnx")
        _table(folder / "table.parquet", options.rows)
        command = [str(engines_python()), "-m", "benchmarks.score_engines", "--inside", text]
        command += ["--rounds", str(options.rounds), "--rows", str(options.rows)]
        sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
