"""Devices and memory as an operator sees them, on a machine without a GPU."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake

Start = Callable[..., Gateway]
ROW = {"x": [[1, 1, 1, 1]]}


def test_auto_is_the_cpu_without_the_accelerator_and_is_told_once(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml='device = "auto"\ninstances = 2')
    running = gateway(repository).wait_ready()
    assert running.infer("m", ROW) == {"y": [[2, 2, 2, 2]]}
    assert sum("m version 1: device = 'auto' selects cpu" in line for line in running.log) == 1


@pytest.mark.parametrize("device", ['"cuda:1"', '["cuda:0", "cuda:1"]'])
def test_a_card_without_the_accelerator_is_told(gateway: Start, tmp_path: Path, device: str) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml=f"device = {device}")
    running = gateway(repository).wait_ready()
    said = running.index()["m", "1"]
    assert f"device = {device}".replace('"', "'") in str(said)
    assert "start it with --accelerator cuda" in str(said)


def test_memory_that_runs_out_costs_no_answer_and_no_worker(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml="max_batch_size = 8", memory_rows=3)
    running = gateway(repository).wait_ready()
    rows = [[number] * 4 for number in range(20)]
    (worker,) = running.worker_pids("m")
    assert running.infer("m", {"x": rows}) == {"y": [[2 * number] * 4 for number in range(20)]}
    running.wait_for("20 rows did not fit into memory; from now on, at most 2 rows of this shape run together")
    assert running.worker_pids("m") == [worker]
