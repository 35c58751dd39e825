"""The command `modelport profile`, run as a user runs it, on models of real frameworks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

COMMAND = [sys.executable, "-m", "gateway", "profile"]
SHORT = ("--seconds", "0.02", "--batch-sizes", "1,8", "--threads", "2")
FILES = {"profile.json", "profile.md", "profile.svg", "model.toml.patch"}


def run(*arguments: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=200, env=environment, cwd=cwd)


def figures(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "profile.json").read_text())
    for point in content["points"]:
        assert not point["failed"]
        assert 0 < point["p50_ms"] <= point["p99_ms"]
        assert point["peak_bytes"] > point["growth_bytes"] >= 0
        assert point["rows_per_s"] == pytest.approx(point["instances"] * point["rows"] / point["p50_ms"] * 1e3)
    return content


@pytest.mark.parametrize("runtime", ["onnx", "cntk"])
def test_a_model_of_a_framework(runtime: str, tmp_path: Path, runtime_environment: Callable[[str], Any]) -> None:
    runtime_environment(runtime)
    model = f"digits_{runtime}"
    shutil.copytree(ROOT / "model_repo" / model, tmp_path / "models" / model)
    done = run(model, "--repository", "models", *SHORT, "--latency-target-ms", "1000", "--apply", cwd=tmp_path)
    assert done.returncode == 0, done
    out, toml = tmp_path / f"profile-{model}", tmp_path / "models" / model / "model.toml"
    assert {file.name for file in out.iterdir()} >= FILES
    content = figures(out)
    assert {(point["threads"], point["rows"]) for point in content["points"]} == {(2, 1), (2, 8)}
    assert content["load_seconds"] > 0
    assert content["versions"]
    settings = {key: each["value"] for key, each in content["recommendation"]["settings"].items()}
    before, after = (ROOT / "model_repo" / model / "model.toml").read_text(), toml.read_text()
    assert tomllib.loads(after) == {**tomllib.loads(before), **settings}
    assert [line for line in after.splitlines() if line in before.splitlines()] == before.splitlines()
    assert "recommended in model.toml:" in done.stdout
    assert f"threads = {settings['threads']}" in done.stdout


def test_stopped_it_writes_what_was_measured(tmp_path: Path, runtime_environment: Callable[[str], Any]) -> None:
    runtime_environment("onnx")
    process = subprocess.Popen(
        [*COMMAND, "digits_onnx", "--output", str(tmp_path / "out"), *SHORT[:-1], "1,2"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
        # If a shell runs the tests in the background, they ignore SIGINT, and so would their child processes.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "measuring 2 threads" in line:
            break
    else:
        pytest.fail("it ended on its own")
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=100)
    assert (process.returncode, "stopped before the end" in printed) == (130, True), (printed, errors)
    assert figures(tmp_path / "out")["finished"] is False
