"""`modelport score` as users run it: a process of its own, on a model of a real framework."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks import models
from tests.support import ROOT

ROWS = 4000
_WAIT_S = 60.0


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "gateway", "score", *map(str, arguments)]


def run(*arguments: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=_WAIT_S)


@pytest.fixture(scope="module", autouse=True)
def _onnx(runtime_environment: Callable[[str], Any]) -> None:
    runtime_environment("onnx")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that takes about a millisecond for a row, and its input."""
    folder = tmp_path_factory.mktemp("score")
    models.convolutions(folder / "model.onnx", 40)
    x = np.random.default_rng(0).normal(size=(ROWS, 1, 8, 8)).astype(np.float32)
    np.savez(folder / "in.npz", x=x, id=np.arange(ROWS))
    return folder / "model.onnx", folder / "in.npz"


def wait_for_part(parts: Path, process: "subprocess.Popen[bytes]", before: int = 0) -> None:
    """Wait until the run has finished more parts than it had before."""
    tick = threading.Event()
    for _ in range(int(_WAIT_S / 0.02)):
        if len(list(parts.glob("part-*.json"))) > before:
            return
        assert process.poll() is None, "the run ended before it was killed"
        tick.wait(0.02)
    raise AssertionError("no part was finished in time")


def test_a_run_that_is_killed_continues_and_its_output_is_the_same(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    whole = run(*prepared, "--output", tmp_path / "whole.parquet")
    assert (whole.returncode, whole.stderr) == (0, "")
    output = tmp_path / "out.parquet"
    arguments = [*prepared, "--output", output, "--part-seconds", "0.05", "--batch-rows", "32"]
    parts = tmp_path / "out.parquet.parts"
    for number in (signal.SIGKILL, signal.SIGINT):
        before = len(list(parts.glob("part-*.json")))
        process = subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for_part(parts, process, before)
        process.send_signal(number)
        _, text = process.communicate(timeout=_WAIT_S)
        assert process.returncode == (-9 if number == signal.SIGKILL else 130)
        assert not output.exists()
    assert b"the same command continues there" in text
    again = run(*arguments)
    assert again.returncode == 0, again.stderr
    assert "rows are finished already; continuing there" in again.stderr
    assert f"read {ROWS:,} = scored {ROWS:,} + bad 0" in again.stdout
    assert pq.read_table(output).equals(pq.read_table(tmp_path / "whole.parquet"))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.parquet", "whole.parquet"]


def test_a_worker_that_is_killed_costs_no_row(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    process = subprocess.Popen(
        command(*prepared, "--output", output, "--part-seconds", "0.05", "--batch-rows", "32"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    wait_for_part(tmp_path / "out.npz.parts", process)
    for child in psutil.Process(process.pid).children(recursive=True):
        os.kill(child.pid, signal.SIGKILL)
    text, _ = process.communicate(timeout=_WAIT_S)
    assert process.returncode == 0
    assert f"scored {ROWS:,} + bad 0".encode() in text
    with np.load(output) as found:
        np.testing.assert_array_equal(found["id"], np.arange(ROWS))
        assert found["y"].shape == (ROWS, 64)


def test_values_are_those_of_training_and_bad_rows_have_a_file(tmp_path: Path) -> None:
    with np.load(ROOT / "examples/digits/heldout.npz") as file:
        images, labels = file["image"].astype(np.float32), file["label"]
    lines = [
        json.dumps({"label": int(label), "image": row.tolist()}) for row, label in zip(images, labels, strict=True)
    ]
    lines[7] = lines[7].replace("[", "[null, ")
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, "nonsense"]))
    done = run("model_repo/digits_onnx", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl")
    assert done.returncode == 3, done.stderr
    assert f"read {len(lines) + 1} = scored {len(lines) - 1} + bad 2" in done.stdout
    scored = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    accuracy = np.mean([np.argmax(each["scores"]) == each["label"] for each in scored])
    assert accuracy > 0.95
    bad = [json.loads(line) for line in (tmp_path / "out.bad.jsonl").read_text().splitlines()]
    assert [each["row"] for each in bad] == [7, len(lines)]
    assert "input 'image'" in bad[0]["reason"]


def test_a_folder_of_images_is_scored(tmp_path: Path) -> None:
    repository = tmp_path / "repository" / "means"
    (repository / "1").mkdir(parents=True)
    models.channel_means(repository / "1" / "model.onnx", 4)
    (repository / "model.toml").write_text("[preprocess]\nsize = [4, 4]\n")
    (tmp_path / "images").mkdir()
    for number in range(5):
        Image.new("RGB", (8, 8), (10 * number, 20, 30)).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "2.png").write_bytes(b"nonsense")
    (tmp_path / "images" / "5.png").symlink_to("nothing.png")
    done = run(repository, tmp_path / "images", "--output", tmp_path / "out.jsonl")
    assert done.returncode == 3, done.stderr
    scored = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert scored == [{"file": f"{number}.png", "y": [10.0 * number, 20.0, 30.0]} for number in (0, 1, 3, 4)]
    bad = [json.loads(line) for line in (tmp_path / "out.bad.jsonl").read_text().splitlines()]
    assert [each["file"] for each in bad] == ["2.png", "5.png"]
    assert "read 6 = scored 4 + bad 2" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["model_repo/digits_onnx", "nothing.csv", "--output", "o.csv"], 1, "nothing.csv does not exist"),
        (["model_repo/digits_onnx", "README.md", "--output", "o.csv"], 1, "README.md is of no known kind"),
        (["nothing", "examples/digits/heldout.npz", "--output", "o.csv"], 1, "'nothing' does not exist"),
        (["model_repo/digits_onnx", "examples/digits/heldout.npz", "--output", "o.txt"], 1, "which names its format"),
        (["m", "in.csv", "--output", "o.csv", "--column", "x"], 2, "--column 'x': use INPUT=COLUMN"),
        (["m", "in.csv", "--output", "o.csv", "--instances", "0"], 2, "--instances '0': use a number from 1 to 64"),
    ],
)
def test_errors_are_one_sentence(arguments: list[str], code: int, sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
