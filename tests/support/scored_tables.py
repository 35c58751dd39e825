"""A table for the fake runtime (y = 2x), and modelport score over it with each engine."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 640


def make_table(rows: int = ROWS) -> pa.Table:
    """Columns "id" and "x". Of each ten rows, the first has too few numbers, and the second one that is refused."""
    x = [[float(row + each) for each in range(1000, 1004)] for row in range(rows)]
    for row in range(0, rows, 10):
        x[row] = x[row][:3]
        x[row + 1] = [400.0, 0.0, 0.0, 0.0]
    return pa.table({"id": pa.array(range(rows)), "x": pa.array(x, pa.list_(pa.float32()))})


def score_command(
    folder: Path, model: str, engine: str, *flags: str, python: Path | str = sys.executable
) -> "subprocess.Popen[str]":
    """Start modelport score over FOLDER/table.parquet, with FOLDER/ENGINE.parquet as its output."""
    words = ["score", f"repository/{model}", "table.parquet", "--output", f"{engine}.parquet", "--engine", engine]
    return subprocess.Popen(
        [str(python), "-m", "gateway", *words, "--batch-rows", "20", *flags],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check_scored(folder: Path, engine: str, running: "subprocess.Popen[str]") -> None:
    """Wait for the command. Its output and its bad rows must be the local engine's, which is called local.parquet."""
    output, _ = running.communicate()
    assert running.returncode == 3, output
    assert f"read {ROWS} = scored {ROWS * 8 // 10} + bad {ROWS * 2 // 10}" in output, output
    assert (folder / f"{engine}.parquet").read_bytes() == (folder / "local.parquet").read_bytes()
    bad = (folder / f"{engine}.bad.jsonl").read_bytes()
    assert bad == (folder / "local.bad.jsonl").read_bytes()
    assert [json.loads(line)["row"] for line in bad.splitlines()][:4] == [0, 1, 10, 11]
    assert pq.read_table(folder / f"{engine}.parquet").num_rows == ROWS * 8 // 10
    assert not (folder / f"{engine}.parquet.parts").exists()
