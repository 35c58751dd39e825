"""Either the repository or clients that load and unload models decide which models are served."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake

Start = Callable[..., Gateway]


def index(running: Gateway) -> dict[str, tuple[str, str]]:
    listed: list[dict[str, Any]] = running.post("/v2/repository/index").json()
    return {entry["name"]: (entry["state"], entry["reason"]) for entry in listed}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        add_fake(tmp_path / "repository", name)
    return tmp_path / "repository"


def test_explicit_control(gateway: Start, repository: Path) -> None:
    running = gateway(
        repository, "--repository-control", "explicit", "--load-model", "b", "--poll-s", "0.01"
    ).wait_ready()
    assert index(running) == {"a": ("UNAVAILABLE", "unloaded"), "b": ("READY", "")}
    assert running.post("/v2/repository/models/a/load").status == 200
    assert running.infer("a", {"x": [[1, 1, 1, 1]]}) == {"y": [[2, 2, 2, 2]]}
    # New models, and new versions of served models, are not loaded before a client requests it.
    add_fake(repository, "c")
    add_fake(repository, "a", prints="the second content")
    assert running.post("/v2/repository/models/b/unload").status == 200
    assert index(running)["a"] == ("READY", "")
    assert "c" not in index(running)
    assert not any("the second content" in line for line in running.log)
    assert running.post("/v2/repository/models/a/load").status == 200
    running.wait_for(r"worker\.a: the second content")
    assert running.post("/v2/repository/models/c/load").status == 200
    assert running.post("/v2/repository/models/nobody/load").status == 404
    assert index(running) == {"a": ("READY", ""), "b": ("UNAVAILABLE", "unloaded"), "c": ("READY", "")}


def test_explicit_control_with_all_that_is_there(gateway: Start, repository: Path) -> None:
    running = gateway(repository, "--repository-control", "explicit", "--load-model", "*").wait_ready()
    assert index(running) == {"a": ("READY", ""), "b": ("READY", "")}


def test_no_control(gateway: Start, repository: Path) -> None:
    running = gateway(repository, "--repository-control", "none", "--poll-s", "0.01").wait_ready()
    add_fake(repository, "c")
    for verb in ("load", "unload"):
        reply = running.post(f"/v2/repository/models/a/{verb}")
        assert (reply.status, "--repository-control none" in reply.json()["error"]) == (501, True)
    assert index(running) == {"a": ("READY", ""), "b": ("READY", "")}


@pytest.mark.parametrize("control", [("none",), ("explicit", "--load-model", "*")])
def test_a_worker_that_dies_after_its_files_were_replaced_comes_back_with_the_new_ones(
    gateway: Start, repository: Path, control: tuple[str, ...]
) -> None:
    running = gateway(repository, "--repository-control", *control).wait_ready()
    add_fake(repository, "a", prints="the second content")
    add_fake(repository, "b", prints="not asked for")
    (pid,) = running.worker_pids("a")
    os.kill(pid, signal.SIGKILL)
    running.wait_for("a version 1: its files changed")
    running.wait_served("a")
    assert running.infer("a", {"x": [[1, 1, 1, 1]]}) == {"y": [[2, 2, 2, 2]]}
    assert any("the second content" in line for line in running.log)
    assert not any("not asked for" in line for line in running.log)


def test_loads_that_come_while_it_is_loaded_share_one_load(gateway: Start, repository: Path) -> None:
    add_fake(repository, "a", load_seconds=0.5, prints="loading")
    running = gateway(repository, "--repository-control", "explicit", "--load-model", "*").wait_ready()
    path = "/v2/repository/models/a/load"
    with ThreadPoolExecutor(4) as threads:
        assert {reply.status for reply in threads.map(running.post, [path] * 4)} == {200}
    running.terminate()
    assert sum("worker.a: loading" in line for line in running.log) == 2
