"""Load requests that bring files and configurations: by NVIDIA's clients, unmodified, and what remains of them."""

import base64
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway, Reply
from tests.support.model_repositories import add_fake

SIX = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 6]}]}).encode()


def uploaded(scratch: Path) -> list[Path]:
    """The files that requests have brought, of the only gateway with this folder for temporary files."""
    return [path for kind in ("uploads", "uploaded") for path in scratch.glob(f"modelport-*/{kind}/**/*.json")]


def load(running: Gateway, model: str, content: bytes = b"", config: str = "{}", **more: str) -> Reply:
    parameters = {"config": config, **more}
    if content:
        parameters["file:1/model.fake.json"] = base64.b64encode(content).decode()
    return running.post(f"/v2/repository/models/{model}/load", {"parameters": parameters})


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="mp-", dir="/tmp") as folder:
        yield Path(folder)


def test_tritons_clients(gateway: Callable[..., Gateway], tmp_path: Path, scratch: Path) -> None:
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository", "--allow-uploads", TMPDIR=str(scratch)).wait_ready()
    script = Path(__file__).parent / "load_overrides_script.py"
    assert "all of it worked" in run_client(python, script, running.http, running.grpc)
    while uploaded(scratch):
        running.get("/v2")  # the workers of what was replaced are ending
    assert running.terminate() == 0
    assert not list(scratch.iterdir())


def test_it_must_be_allowed(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository").wait_ready()
    for reply in (load(running, "m"), load(running, "m", SIX), load(running, "new", SIX)):
        assert reply.status == 501
        assert "--allow-uploads" in reply.json()["error"]
    unknown = running.post("/v2/repository/models/m/load", {"parameters": {"priority": 3}})
    assert unknown.status == 400
    assert "there is no parameter 'priority'" in unknown.json()["error"]


def test_a_worker_that_dies_starts_again_with_the_files(
    gateway: Callable[..., Gateway], tmp_path: Path, scratch: Path
) -> None:
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository", "--allow-uploads", TMPDIR=str(scratch)).wait_ready()
    assert load(running, "m", SIX).status == 200
    while len(running.worker_pids("m")) > 1:
        pass  # each turn is a request, while the worker of the repository's files is ending
    (pid,) = running.worker_pids("m")
    os.kill(pid, signal.SIGKILL)
    assert running.infer("m", {"x": [[1.0] * 6]})["y"] == [[2.0] * 6]
    # The repository changes, and the override stays.
    add_fake(tmp_path / "repository", "m", "2")
    add_fake(tmp_path / "repository", "other")
    running.wait_for("other version 1.*READY")
    assert running.get("/v2/models/m").json()["versions"] == ["1"]
    (file,) = uploaded(scratch)
    assert file.parents[1].stat().st_mode & 0o077 == 0
    values = running.get("/console/models/m/configuration").json()["values"]
    assert {each["key"]: each["source"] for each in values}["artifact"] == "load request"
    # It is gone with the next load.
    assert running.post("/v2/repository/models/m/load", {}).status == 200
    assert running.infer("m", {"x": [[1.0] * 4]})["y"] == [[2.0] * 4]
    while uploaded(scratch):
        running.get("/v2")


def test_limits(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    flags = ("--allow-uploads", "--max-upload-bytes", "1000000")
    running = gateway(tmp_path / "repository", *flags).wait_ready()
    reply = load(running, "m", SIX + b" " * 999_000)
    assert reply.status == 200
    reply = load(running, "m", SIX + b" " * 1_000_000)
    assert reply.status == 413
    assert "over the limit of 1000000 bytes" in reply.json()["error"]
    reply = load(running, "m", SIX + b" " * 3_000_000)
    assert reply.status == 413
    assert running.infer("m", {"x": [[1.0] * 6]})["y"] == [[2.0] * 6]
