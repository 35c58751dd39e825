"""Models in Spark, with two executors, in Spark's environment. Usage: spark_script.py FOLDER DIGITS.

FOLDER has fake models (y = 2x). The executors' MODELPORT_HOME is FOLDER/home, which lacks the environment of the fake
runtime. A failed assertion is a failure.
"""

import json
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as f
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import LongType, StructField, StructType

import modelport
import modelport.spark
from gateway.score.scorer import Scorer
from tests.support.ended_processes import wait_ended
from tests.support.spark_session import executors, kill, spark_cluster, workers
from tests.support.undeclared_inputs import CASES, add_undeclared, of_local_engine

ROWS = 400


def table(spark: Any, partitions: int, rows: int = ROWS) -> Any:
    """Rows of four numbers. Of each ten, the first has three numbers, and the second has a number that is refused."""
    vector = f.array(*[(f.col("id") + number).cast("float") for number in range(1000, 1004)])
    bad = f.array(*[f.lit(float(number)) for number in (400, 0, 0, 0)])
    x = f.when(f.col("id") % 10 == 0, f.slice(vector, 1, 3)).when(f.col("id") % 10 == 1, bad).otherwise(vector)
    return spark.range(0, rows, 1, partitions).select("id", x.alias("x"))


def check(rows: Any, count: int = ROWS) -> None:
    """All rows are there once, each with its own outputs or its own reason."""
    found = {row["id"]: row for row in rows}
    assert len(rows) == len(found) == count, (len(rows), len(found))
    for number in range(count):
        row = found[number]
        if number % 10 == 0:
            assert row["y"] is None, row
            assert "shape [3]" in row["error"], row
        elif number % 10 == 1:
            assert row["y"] is None, row
            assert row["error"], row
        else:
            assert row["error"] is None, row
            assert row["y"] == [2.0 * (number + each) for each in range(1000, 1004)], row


def check_builds(spark: Any, folder: Path) -> None:
    """Both executors need an environment at the same time, and it is built once."""
    predict = modelport.spark.model_udf(str(folder / "repository" / "plain"))
    result = table(spark, 2).select("id", predict("x").alias("o")).select("id", "o.y", "o.error")
    check(result.collect())
    (marker,) = (folder / "home" / "environments").glob("fake-cpu-*/modelport.json")
    assert json.loads(marker.read_text())["runtime"] == "fake"
    for each in executors():
        owners = {worker.ppid() for worker in workers(each)}
        assert len(owners) == 1, "an executor with one core has one Python process with a model"


def check_scored(spark: Any, folder: Path) -> None:
    result = modelport.spark.score(
        table(spark, 4).withColumnRenamed("x", "image"),
        modelport.ModelSpec(str(folder / "repository" / "plain")),
        columns={"x": "image"},
        keep=["id"],
        prefix="p_",
    )
    assert result.columns == ["id", "p_y", "error"]
    check(result.withColumnRenamed("p_y", "y").collect())
    try:
        modelport.spark.score(table(spark, 1).drop("x"), str(folder / "repository" / "plain"))
    except modelport.InvalidRequest as error:
        assert "'x'" in str(error)
    else:
        raise AssertionError("a table without the input's column was accepted")


def check_values(spark: Any, digits: str) -> None:
    """The digits model in Spark returns what it returns here, to the last bit, for the same batches."""
    with modelport.load(digits, threads=1) as model:
        (spec,) = model.signature.inputs
        images = np.random.default_rng(0).random((64, *spec.shape[1:]), np.float32)
        kind, sql = pa.float32(), "float"
        for _ in spec.shape[1:]:
            kind, sql = pa.list_(kind), f"array<{sql}>"
        batch = pa.RecordBatch.from_arrays([pa.array(images.tolist(), kind)], [spec.name])
        expected = Scorer(model, batch.schema).score(batch)
    assert not expected.bad, expected.bad[:1]
    rows = list(enumerate(images.tolist()))
    frame = spark.createDataFrame(rows, f"place int, `{spec.name}` {sql}").coalesce(1)
    found = modelport.spark.score(frame, digits).orderBy("place").collect()
    for column in expected.batch.schema.names:
        assert [row[column] for row in found] == expected.batch.column(column).to_pylist(), column


def check_undeclared(spark: Any, folder: Path) -> None:
    """Inputs without a datatype: the driver chooses one by the first rows, and the values are the local engine's."""
    for name in ("int64", "fp32_of_fp64", "bf16", "strings", "numbers_as_text", "bools", "nested"):
        case, spec = CASES[name], add_undeclared(folder, name)
        local = of_local_engine(folder, name)
        assert local == case.expected, (name, local)
        type_ = StructType([StructField("row", LongType()), StructField("x", from_arrow_type(case.kind))])
        found = modelport.spark.score(spark.createDataFrame(list(enumerate(case.values)), type_), spec)
        rows = {row["row"]: row for row in found.collect()}
        assert [rows[row]["y"] for row in range(len(rows))] == local, (name, rows)
        assert [rows[row]["error"] is None for row in range(len(rows))] == [value is not None for value in local], rows
    late = spark.range(0, 1000, 1, 2).select("id", f.when(f.col("id") >= 600, f.col("id") * 0.125).alias("x"))
    rows = {row["id"]: row["y"] for row in modelport.spark.score(late, spec_of(folder, "fp32_of_fp64")).collect()}
    assert rows == {row: row * 0.25 if row >= 600 else None for row in range(1000)}
    try:
        modelport.spark.score(late, spec_of(folder, "strings"))
    except modelport.InvalidRequest as error:
        assert "does not declare the datatype of input 'x'" in str(error)
    else:
        raise AssertionError("a column that the model does not accept was accepted")


def spec_of(folder: Path, name: str) -> modelport.ModelSpec:
    return modelport.ModelSpec(str(folder / "repository" / name), threads=1)


def check_killed(spark: Any, folder: Path) -> None:
    """An executor is killed when it has done some of its tasks, and is in the middle of another."""
    before = executors()
    result = modelport.spark.score(table(spark, 20), str(folder / "repository" / "slow"))
    answers: list[Any] = []
    thread = Thread(target=lambda: answers.append(result.collect()))
    thread.start()
    tracker = spark.sparkContext.statusTracker()
    while not any(
        stage is not None and stage.numCompletedTasks >= 4 and stage.numActiveTasks
        for stage in map(tracker.getStageInfo, tracker.getActiveStageIds())
    ):
        pass  # each turn asks Spark
    below = workers(before[0])
    assert below
    kill(before[0])
    thread.join()
    check(answers[0])
    assert wait_ended(below) == []  # its workers have ended with it


def main() -> None:
    folder, digits = Path(sys.argv[1]), sys.argv[2]
    with spark_cluster(2, {"MODELPORT_HOME": str(folder / "home")}) as spark:
        check_builds(spark, folder)
        check_scored(spark, folder)
        check_values(spark, digits)
        check_undeclared(spark, folder)
        check_killed(spark, folder)
        left = [each for executor in executors() for each in workers(executor)]
        assert left
    assert wait_ended(left) == []
    print("all of it worked")


if __name__ == "__main__":
    main()
