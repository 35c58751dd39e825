"""modelport score on Spark and Ray, whose processes are killed in the middle: the output is the local engine's."""

import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.client_environments import engines_python, run_client
from tests.support.ended_processes import wait_ended
from tests.support.environments import skip_or_fail
from tests.support.model_repositories import add_fake
from tests.support.scored_tables import check_scored, make_table, score_command
from tests.support.spark_session import executors, kill, workers

SPARK = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the local engine has made of table.parquet, and models of a fake runtime that needs no environment."""
    folder = tmp_path_factory.mktemp("engines")
    (folder / "modelport.toml").write_text(f'[runtimes.fake]\npython = "{sys.executable}"\n')
    add_fake(folder / "repository", "slow", toml="max_batch_size = 16", seconds_per_batch=0.02)
    pq.write_table(make_table(), folder / "table.parquet")
    check_scored(folder, "local", score_command(folder, "slow", "local", python=engines_python()))
    return folder


def test_an_executor_of_spark_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("java") is None:
        skip_or_fail("Spark needs Java 17 or newer: install it (make apt)")
    settings = " ".join(f"--conf {name}={value}" for name, value in SPARK.items())
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", f"{settings} pyspark-shell")
    running = score_command(folder, "slow", "spark", "--master", "local-cluster[2,1,1024]", python=engines_python())
    while not (started := [each for each in executors(running.pid) if workers(each)]):
        assert running.poll() is None, running.communicate()[0]
    below = workers(started[0])
    kill(started[0])
    assert running.poll() is None, "it was not in the middle"
    check_scored(folder, "spark", running)
    assert wait_ended(below) == []


def test_actors_of_ray_are_killed(folder: Path) -> None:
    script = Path(__file__).parent / "ray_data_script.py"
    assert "all of it worked" in run_client(engines_python(), script, str(folder), cwd=folder)
