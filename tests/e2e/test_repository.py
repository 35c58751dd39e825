"""Repositories: versions come and go under load, memory is returned, single artifacts are served."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.support.ended_processes import wait_ended
from tests.support.gateway_process import Gateway
from tests.support.load_generator import Load
from tests.support.model_repositories import add_fake
from tests.support.protocols import ask_grpc

Start = Callable[..., Gateway]


def row(number: int) -> dict[str, Any]:
    return {"inputs": {"x": [[number + 1000] * 4]}}


def versions_of(load: Load, last: int = 1_000_000) -> set[str]:
    return {body["version"] for status, body, _ in load.replies[-last:] if status == 200}


def test_a_new_version_is_loaded_under_load_and_no_request_fails(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", "1", seconds_per_batch=0.001)
    running = gateway(repository, "--fronts", "2").wait_ready()
    with Load(running.http, "/predict/m", row, clients=16) as load:
        for version in ("2", "3"):
            load.wait_answers(100)
            add_fake(repository, "m", version, seconds_per_batch=0.001)
            running.wait_for(rf"m version {int(version) - 1} is unloaded")
        load.wait_answers(500)
        shutil.rmtree(repository / "m" / "3")
        running.wait_for(r"m version 3 is unloaded")
        load.wait_answers(500)
    assert load.failures() == []
    assert versions_of(load) == {"1", "2", "3"}
    assert versions_of(load, last=50) == {"2"}


def test_new_content_of_a_version_takes_over_under_load(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    running = gateway(repository).wait_ready()
    with Load(running.http, "/predict/m", row, clients=8) as load:
        load.wait_answers(100)
        (before,) = running.worker_pids("m")
        add_fake(repository, "m", prints="the second content")
        running.wait_for(r"m version 1 is unloaded")
        load.wait_answers(100)
    assert load.failures() == []
    running.wait_for(r"worker\.m: the second content")
    assert wait_ended([before]) == []
    assert before not in running.worker_pids("m")


def test_a_broken_new_version_leaves_the_old_one_serving(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", "1")
    running = gateway(repository).wait_ready()
    add_fake(repository, "m", "2", load_error="it is corrupt")
    running.wait_for(r"m version 2 is UNAVAILABLE: it is corrupt")
    assert running.post("/predict/m", row(1)).json()["version"] == "1"
    assert {version: entry["state"] for (_, version), entry in running.index().items()} == {
        "1": "READY",
        "2": "UNAVAILABLE",
    }


def test_unloading_returns_the_memory_and_loading_brings_the_model_back(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "big", allocate_mb=300)
    running = gateway(repository).wait_ready()
    tree = psutil.Process(running.process.pid)

    def resident() -> int:
        return sum(process.memory_info().rss for process in [tree, *tree.children(recursive=True)])

    (pid,) = running.worker_pids("big")
    worker, before = psutil.Process(pid), resident()
    assert running.post("/v2/repository/models/big/unload").status == 200
    assert wait_ended([worker]) == []
    assert before - resident() > 300e6
    assert running.post("/predict/big", row(1)).status == 404
    assert running.post("/v2/repository/models/big/load").status == 200
    assert running.infer("big", {"x": [[1, 1, 1, 1]]}) == {"y": [[2, 2, 2, 2]]}


def test_load_and_unload_are_done_when_they_are_answered(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    running = gateway(repository).wait_ready()

    def shown() -> str:
        (model,) = running.get("/console/data").json()["models"]
        return str(model["state"])

    for _ in range(10):
        assert running.post("/v2/repository/models/m/unload").status == 200
        assert running.get("/v2/models/m/ready").status == 404
        assert shown() in ("UNLOADING", "UNAVAILABLE")
        assert running.post("/v2/repository/models/m/load").status == 200
        assert running.get("/v2/models/m/ready").status == 200
        assert shown() == "READY"


def test_loading_a_broken_model_says_why(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", load_error="it is corrupt")
    running = gateway(repository).wait_ready()
    reply = running.post("/v2/repository/models/m/load")
    assert (reply.status, "it is corrupt" in reply.json()["error"]) == (503, True)
    add_fake(repository, "m")
    assert running.post("/v2/repository/models/m/load").status == 200
    assert running.infer("m", {"x": [[1, 1, 1, 1]]}) == {"y": [[2, 2, 2, 2]]}
    assert running.post("/v2/repository/models/other/load").status == 404


def test_loading_follows_files_that_change_meanwhile(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    running = gateway(repository).wait_ready()
    add_fake(repository, "m", load_seconds=2)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(running.post, "/v2/repository/models/m/load")
        while "LOADING" not in str(running.post("/v2/repository/index", {}).json()):
            pass  # each turn is a request: the second content is being loaded
        (shown,) = running.get("/console/data").json()["models"]
        assert shown["state"] == "READY"  # by the first content, which answers meanwhile
        add_fake(repository, "m", prints="the third content")
        assert loading.result(timeout=60).status == 200
    assert running.infer("m", {"x": [[1, 1, 1, 1]]}) == {"y": [[2, 2, 2, 2]]}


def test_gauges_of_a_version_that_left_fall_to_zero(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml="max_batch_size = 0", seconds_per_batch=0.5)
    add_fake(repository, "stays")
    running = gateway(repository).wait_ready()
    gauge = 'modelport_requests_in_flight{model="m",version="1"} '
    with Load(running.http, "/predict/m", row, clients=2, most=1) as load:
        while gauge + "2.0" not in running.get("/metrics").body.decode():
            pass  # each turn is a scrape
        shutil.rmtree(repository / "m")
        running.wait_for(r"m version 1 is unloaded")
        load.wait_total(2)
    assert load.failures() == []
    assert gauge + "0.0" in running.get("/metrics").body.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing_here"], "nothing_here does not exist; it must be a model repository or an artifact"),
        (["notes.txt"], "'notes.txt' is not an artifact that a runtime reads; supported are"),
        ([".", "--only", "onxx"], "--only: there is no runtime 'onxx'; there are "),
    ],
)
def test_serving_what_cannot_be_served_ends_with_a_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "notes.txt").write_text("todo")
    command = [sys.executable, "-m", "gateway", "serve", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_ipv6_addresses_work(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository", "--http", "[::1]:0", "--grpc", "[::1]:0").wait_ready()
    assert running.infer("m", {"x": [[1, 1, 1, 1]]}) == {"y": [[2, 2, 2, 2]]}
    ones = np.ones((1, 4), np.float32)
    assert (ask_grpc(running, "m", {"x": ones})["y"] == 2).all()


def test_a_single_artifact_is_served_by_its_name(gateway: Start, tmp_path: Path) -> None:
    artifact = add_fake(tmp_path, "anything")
    running = gateway(artifact).wait_ready()
    assert running.infer("model", {"x": [[1, 2, 3, 4]]}) == {"y": [[2, 4, 6, 8]]}


def test_leading_zeros_and_foreign_folders(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", "00000123")
    (repository / "m" / "notes").mkdir()
    (repository / ".git").mkdir()
    running = gateway(repository).wait_ready()
    assert list(running.index()) == [("m", "123")]
    assert running.infer("m", {"x": [[1, 1, 1, 1]]}, "00000123") == {"y": [[2, 2, 2, 2]]}


def test_instances_share_the_load(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml="instances = 2\nmax_batch_size = 0", seconds_per_batch=0.01)
    running = gateway(repository).wait_ready()
    running.wait_for(r"m version 1 is READY")
    while len(running.worker_pids("m")) < 2:
        pass  # each turn is a scrape: the second instance is being started
    workers = [psutil.Process(pid) for pid in running.worker_pids("m")]
    with Load(running.http, "/predict/m", row, clients=8) as load:
        load.wait_answers(200)
    assert load.failures() == []
    # Both workers answered: one without requests would have switched context only a few times.
    assert all(worker.num_ctx_switches().voluntary > 50 for worker in workers)


def test_what_a_model_declares_is_enforced_and_shown(gateway: Start, tmp_path: Path) -> None:
    toml = 'max_batch_size = 8\n[[inputs]]\nname = "x"\ndatatype = "FP64"\nshape = [-1, 2]\n'
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml=toml, inputs=[{"name": "x", "datatype": "", "shape": [-1, -1]}])
    add_fake(repository, "contradicted", toml=toml, inputs=[{"name": "x", "datatype": "FP32", "shape": [-1, 2]}])
    running = gateway(repository).wait_ready()
    assert running.get("/v2/models/m").json()["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]
    running.wait_for("contradicted version 1 is UNAVAILABLE: .*declared as FP64, but the model has FP32")
    reply = running.post("/predict/m", {"inputs": {"x": [[1, 2, 3]]}})
    assert (reply.status, "expected [-1, 2]" in reply.json()["error"]) == (400, True)


def test_what_is_learned_informs_and_never_refuses(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", inputs=[{"name": "x", "datatype": "", "shape": None}], outputs=None)
    running = gateway(repository).wait_ready()
    assert running.infer("m", {"x": [[1.5, 2.5]]}) == {"y": [[3.0, 5.0]]}
    while (metadata := running.get("/v2/models/m").json())["outputs"] == []:
        pass  # each turn is a request: the front has not received the learned metadata yet
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [1, 2]}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 2]}]
    assert running.infer("m", {"x": [[[1], [2], [3]]]}) == {"y": [[[2], [4], [6]]]}


@pytest.mark.parametrize("flag", ["--http", "--grpc", "--metrics"])
def test_a_second_gateway_on_the_same_port_fails_in_words(gateway: Start, tmp_path: Path, flag: str) -> None:
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository").wait_ready()
    address = getattr(running, flag.removeprefix("--"))
    with pytest.raises(AssertionError, match=f"{address} cannot be bound: it is in use; .* with {flag} HOST:PORT"):
        gateway(tmp_path / "repository", flag, address)
