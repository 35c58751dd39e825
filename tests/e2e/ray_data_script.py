"""Ray Data, and modelport score with its engine, on two nodes, in Ray's environment.

Usage: ray_data_script.py FOLDER, which has fake models (y = 2x), and modelport.toml for their runtime. A failed
assertion is a failure.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import ray

import modelport.ray
from tests.support.ray_cluster import two_nodes
from tests.support.scored_tables import check_scored, make_table, score_command
from tests.support.undeclared_inputs import add_undeclared

ROWS = 400


def actors(word: str) -> list[psutil.Process]:
    """The processes of actors. Ray puts what they do into their titles."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if word in process.cmdline()[0]:
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def check_map_batches(folder: Path) -> None:
    """An actor is killed in the middle; no row is lost or scored twice."""
    table = make_table(ROWS)
    data = ray.data.from_arrow([table.slice(start, 20) for start in range(0, ROWS, 20)])
    scored = data.map_batches(
        modelport.ray.Scorer,
        fn_constructor_args=(str(folder / "repository" / "slow"),),
        batch_format="pyarrow",
        batch_size=20,
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=1,
    )
    rows: list[dict[str, Any]] = []
    killed: list[psutil.Process] = []
    for row in scored.iter_rows():
        if not killed:
            killed = actors("MapWorker")[:1]
            killed[0].kill()
        rows.append(row)
    assert killed
    check_rows(rows)


def check_rows(rows: list[dict[str, Any]]) -> None:
    """All rows are there once, each with its own outputs or its own reason."""
    found = {row["id"]: row for row in rows}
    assert len(rows) == len(found) == ROWS, (len(rows), len(found))
    for number, row in found.items():
        if number % 10 < 2:
            assert row["y"] is None, row
            assert row["error"], row
        else:
            assert row["error"] is None, row
            assert np.array_equal(row["y"], [2.0 * (number + each) for each in range(1000, 1004)]), row


def check_undeclared(folder: Path) -> None:
    """Inputs without a datatype: each actor chooses the same one."""
    spec = add_undeclared(folder, "fp32_of_fp64")
    data = ray.data.from_arrow([pa.table({"id": [row, -row], "x": [row * 0.5, None]}) for row in range(1, 9)])
    scored = data.map_batches(
        modelport.ray.Scorer,
        fn_constructor_args=(spec,),
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=2),
        num_cpus=1,
    )
    found = {row["id"]: row["y"] for row in scored.iter_rows()}
    assert found == {row: float(row) if row > 0 else None for row in range(-8, 9) if row}


def check_command(folder: Path, address: str) -> None:
    """As above, by the command."""
    running = score_command(folder, "slow", "ray", "--ray-address", address)
    while not (found := actors("BatchActor.score")):
        assert running.poll() is None, running.communicate()[0]
    found[0].kill()
    assert running.poll() is None, "it was not in the middle"
    check_scored(folder, "ray", running)


def main() -> None:
    folder = Path(sys.argv[1])
    with two_nodes() as cluster:
        check_map_batches(folder)
        check_undeclared(folder)
        ray.shutdown()
        check_command(folder, cluster.address)
    print("all of it worked")


if __name__ == "__main__":
    main()
