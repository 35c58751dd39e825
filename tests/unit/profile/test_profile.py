"""A whole profile, of models without a framework: what is measured, what is refused, and what is written."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.environments.runtime import discover
from gateway.export.errors import CannotExport
from gateway.profile import profile as profiles
from gateway.profile.profile import Result, _find
from tests.support.model_repositories import add_fake

Run = Callable[..., Result]


def rows_of(result: Result) -> dict[int, str]:
    """Return rows → why they failed, of the only configuration."""
    return {point.rows: point.failed for point in result.profile.points}


def test_everything_is_written(run: Run, tmp_path: Path) -> None:
    add_fake(tmp_path / "models", "m", toml="# ours\nwarmup = 2\n", seconds_per_batch=0.002)
    result = run(latency_target_ms=100.0)
    assert rows_of(result) == {1: "", 4: "", 8: ""}
    assert all(point.p99_ms >= point.p50_ms >= 2 and point.runs >= 3 for point in result.profile.points)
    assert all(point.peak_bytes > point.growth_bytes >= 0 for point in result.profile.points)
    assert result.profile.load_peak_bytes >= result.profile.loaded_bytes > 1 << 20
    found = result.profile.recommendation
    assert found is not None
    assert found.settings["max_batch_size"].value == 8
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == {
        "profile.json",
        "profile.md",
        "profile.svg",
        "model.toml.patch",
        "tensorboard",
    }
    content = json.loads((out / "profile.json").read_text())
    assert [point["rows"] for point in content["points"]] == [1, 4, 8]
    assert content["recommendation"]["settings"]["threads"]["value"] == 1
    assert content["interface"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert "| 1 | 1 | 8 |" in (out / "profile.md").read_text()
    assert "+max_batch_size = 8\n" in (out / "model.toml.patch").read_text()


def test_sizes_that_fail_are_reported_and_the_others_measured(run: Run, tmp_path: Path) -> None:
    """Of eight recorded rows, the sixth ends the process; more than four rows at a time do not fit into memory."""
    add_fake(tmp_path / "models", "m", toml="max_batch_size = 32\nexecution_timeout_s = 0.5\n", memory_rows=6)
    recorded = np.zeros((8, 4), np.float32)
    recorded[5] = 666
    np.savez(tmp_path / "data.npz", x=recorded)
    result = run(inputs=str(tmp_path / "data.npz"), batch_sizes=(1, 4, 6, 8))
    assert rows_of(result) == {
        1: "", 4: "",
        6: "it was killed by signal 9",
        8: "it was killed by signal 9",
    }  # fmt: skip
    assert result.profile.recommendation is not None
    assert "a batch of 6: it was killed by signal 9" in (tmp_path / "out" / "profile.md").read_text()
    recorded[5] = 400
    np.savez(tmp_path / "data.npz", x=recorded)
    result = run(inputs=str(tmp_path / "data.npz"), batch_sizes=(1, 6, 7))
    assert rows_of(result) == {
        1: "",
        6: "refused: an input holds the value 400",
        7: "refused: an input holds the value 400",
    }
    recorded[5] = 777
    np.savez(tmp_path / "data.npz", x=recorded)
    result = run(inputs=str(tmp_path / "data.npz"), batch_sizes=(1, 6))
    assert rows_of(result) == {1: "", 6: "a run takes longer than execution_timeout_s = 0.5"}
    result = run(batch_sizes=(1, 7))
    assert rows_of(result) == {1: "", 7: "out of memory: 7 rows are too many"}


@pytest.mark.parametrize(
    ("toml", "described", "options", "rows", "note"),
    [
        pytest.param("stateful = true\n", {"stateful": True}, {}, [0], "declared stateful", id="stateful"),
        pytest.param("", {"not_batchable": True}, {}, [0], "batching is off", id="rows influence each other"),
        pytest.param("", {name: [{"name": "t", "datatype": "FP32", "shape": [4, 2]}] for name in ("inputs", "outputs")},
                     {}, [0], "the first dimension of 't' is fixed", id="a fixed batch"),
        pytest.param("batch_sizes = [4]\n",
                     {name: [{"name": "t", "datatype": "FP32", "shape": [4, 2]}] for name in ("inputs", "outputs")},
                     {}, [4], "only the sizes that batch_sizes", id="declared sizes"),
        pytest.param("",
                     {name: [{"name": "t", "datatype": "BYTES", "shape": [-1, -1]}] for name in ("inputs", "outputs")},
                     {"shapes": {"t": (1, 3)}, "batch_sizes": (2,)}, [2], "", id="strings, and a variable size"),
    ],
)  # fmt: skip
def test_models_that_are_batched_differently(
    toml: str, described: Any, options: Any, rows: list[int], note: str, run: Run, tmp_path: Path
) -> None:
    add_fake(tmp_path / "models", "m", toml=toml, **described)
    result = run(**options)
    assert list(rows_of(result)) == rows
    assert not any(rows_of(result).values())
    assert note in " ".join(result.profile.notes)
    settings = result.profile.recommendation and result.profile.recommendation.settings
    assert ("max_batch_size" in settings) == (rows != [0])


def test_stopped_it_keeps_what_was_measured(run: Run, tmp_path: Path) -> None:
    add_fake(tmp_path / "models", "m")

    def on_progress(line: str) -> None:
        if line.startswith("measuring 2 threads"):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()

    result = run(on_progress, threads=(1, 2))
    assert not result.profile.finished
    assert {point.threads for point in result.profile.points} == {1}
    assert "was stopped before the end" in (tmp_path / "out" / "profile.md").read_text()


def test_the_second_pass_is_in_reverse(run: Run, tmp_path: Path) -> None:
    add_fake(tmp_path / "models", "m")
    printed: list[str] = []
    result = run(printed.append, threads=(1, 2), batch_sizes=(1,), passes=2)
    measuring = [line for line in printed if line.startswith("measuring")]
    assert measuring == [
        f"measuring {threads}, pass {number} of 2"
        for threads, number in (("1 thread", 1), ("2 threads", 1), ("2 threads", 2), ("1 thread", 2))
    ]
    assert all(point.runs >= 6 for point in result.profile.points)


@pytest.mark.parametrize("toml", ["stateful = true\n", "stateful = true\nmax_batch_size = 0\n"])
def test_a_model_that_keeps_state_gets_one_instance(
    toml: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "available_cores", lambda: 2)
    add_fake(tmp_path / "models", "m", toml=toml)
    result = run(threads=(1,))
    assert [point.instances for point in result.profile.points] == [1]
    assert "the model keeps state" in " ".join(result.profile.notes)


def test_instances_run_at_the_same_time(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that waits, and does not compute, serves twice as many rows with two instances."""
    monkeypatch.setattr(profiles, "available_cores", lambda: 2)
    add_fake(tmp_path / "models", "m", seconds_per_batch=0.02)
    result = run(threads=(1,), batch_sizes=(2,))
    single, double = sorted(result.profile.points, key=lambda point: point.instances)
    assert (single.instances, double.instances) == (1, 2)
    assert double.rows_per_s == pytest.approx(2 * double.rows / double.p50_ms * 1e3)
    assert double.runs >= 2 * 3


@pytest.mark.parametrize(
    ("toml", "options", "message"),
    [
        ("", {"runtime": "nothing"}, "there is no runtime 'nothing'; there are fake"),
        ("", {"signature": "other"}, "there is no signature 'other'"),
        ('device = "cuda"\n', {}, "a profile measures on the CPU"),
        ("", {"inputs": "nowhere.npz"}, "nowhere.npz cannot be read"),
        ("", {"out": Path("docs")}, "docs is not a profile, so it is not replaced"),
    ],
)
def test_what_is_wrong_is_said(toml: str, options: Any, message: str, run: Run, tmp_path: Path) -> None:
    add_fake(tmp_path / "models", "m", toml=toml)
    with pytest.raises(CannotExport, match=message):
        run(**options)
    assert not (tmp_path / "out").exists()


def test_a_program_is_not_profiled(tmp_path: Path) -> None:
    """Its code would run without the operator's permission."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.py").touch()
    request: Any = SimpleNamespace(runtime="", model="m", repository=tmp_path, version="")
    environments: Any = SimpleNamespace(known=discover(), is_available=lambda runtime: True)
    with pytest.raises(CannotExport, match="model 'm' is a program, which cannot be profiled yet"):
        _find(request, environments)
