"""Load requests that bring files and configurations: by NVIDIA's clients, unmodified, and what remains of them."""

import base64
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from gateway.access.keys import digest_of, new_key
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway, Reply
from tests.support.model_repositories import add_fake
from tests.support.triton_examples import example_program

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


def test_a_load_that_fails_in_part_is_no_load(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    """One of two versions loads. Until it is known that the other does not, nothing that was served is unloaded."""
    add_fake(tmp_path / "repository", "m", "1")
    running = gateway(tmp_path / "repository", "--allow-uploads").wait_ready()
    late = json.dumps({"load_seconds": 0.5, "load_error": "it is corrupt"}).encode()
    parameters = {
        "config": json.dumps({"version_policy": {"all": {}}}),
        "file:7/model.fake.json": base64.b64encode(SIX).decode(),
        "file:8/model.fake.json": base64.b64encode(late).decode(),
    }
    reply = running.post("/v2/repository/models/m/load", {"parameters": parameters})
    assert (reply.status, reply.json()["error"]) == (503, "failed to load 'm': it is corrupt")
    assert running.infer("m", {"x": [[1.0] * 4]})["y"] == [[2.0] * 4]
    assert not [line for line in running.log if "m version 1 is unloaded" in line]
    while running.get("/v2/models/m").json()["versions"] != ["1"]:
        pass


def test_a_model_may_be_unloaded_while_it_is_loaded(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository", "--allow-uploads").wait_ready()
    slow, replies = json.dumps({"load_seconds": 3}).encode(), list[Reply]()
    loading = Thread(target=lambda: replies.append(load(running, "m", slow)))
    loading.start()
    while all(each["state"] != "LOADING" for each in running.post("/v2/repository/index", {}).json()):
        pass  # each turn is a request
    assert load(running, "m", SIX).status == 503  # one at a time
    assert running.post("/v2/repository/models/m/unload").status == 200
    loading.join()
    assert (replies[0].status, "was unloaded while it was being loaded" in replies[0].json()["error"]) == (503, True)
    while running.index()["m", "1"]["reason"] != "unloaded":
        pass


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


def push(running: Gateway, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `modelport push` with these arguments, without a terminal."""
    command = [sys.executable, "-m", "gateway", "push", *arguments, "--url", f"http://{running.http}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_push(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "net.fake.json").write_bytes(SIX)
    (tmp_path / "net.fake.json.notes").write_bytes(b" " * 300_000)
    running = gateway(tmp_path / "repository", "--allow-uploads", "--fronts", "2").wait_ready()
    pushed = push(running, "net", str(tmp_path / "net.fake.json"), "--version", "3")
    assert pushed.returncode == 0, pushed.stderr
    lines = pushed.stdout.splitlines()
    assert lines[:4] == [
        f"sent 2 files, {300_000 + len(SIX)} bytes",
        "net version 3 is READY, by fake",
        "  input  x: FP32 [-1, 6]",
        "  output y: FP32 [-1, 4]",
    ]
    curl = shlex.split(lines[-1])
    reply = running.post(curl[1].partition(running.http)[2], curl[3].encode())
    assert reply.status == 200, reply
    # What was served before still is, and the reason is printed.
    add_fake(tmp_path, "net", load_error="it is corrupt")
    refused = push(running, "net", str(tmp_path / "net"))
    assert (refused.returncode, refused.stderr) == (1, "modelport: failed to load 'net': it is corrupt\n")
    assert running.get("/v2/models/net").json()["versions"] == ["3"]


def test_push_says_why_it_is_not_possible(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    file = tmp_path / "repository" / "m" / "1" / "model.fake.json"
    running = gateway(tmp_path / "repository").wait_ready()
    refused = push(running, "m", str(file))
    assert refused.returncode == 1
    assert "does not accept models; start it with --allow-uploads" in refused.stderr
    running.close()
    refused = push(running, "m", str(file))
    assert (refused.returncode, "no gateway answers at" in refused.stderr) == (1, True)
    refused = push(running, "m", str(tmp_path / "nothing"))
    assert (refused.returncode, "cannot be read: No such file" in refused.stderr) == (2, True)


def test_only_an_administrator_pushes(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    file = tmp_path / "repository" / "m" / "1" / "model.fake.json"
    keys = {name: new_key() for name in ("reader", "owner")}
    roles = {"reader": ["infer", "read"], "owner": ["read", "admin:new-*"]}
    tables = [
        f"[identities.{name}]\nroles = {roles[name]}\nkey_sha256 = ['{digest_of(key)}']" for name, key in keys.items()
    ]
    (tmp_path / "identities.toml").write_text("\n".join(tables))
    flags = ("--allow-uploads", "--identities", str(tmp_path / "identities.toml"))
    running = gateway(tmp_path / "repository", *flags)
    running.wait_for(r'front\.\d+.*[ "]serving')
    for name, model, code, text in (
        ("reader", "new-1", 1, "do not permit 'admin' for model 'new-1'"),
        ("owner", "m", 1, "do not permit 'admin' for model 'm'"),
        ("owner", "new-1", 0, "new-1 version 1 is READY"),
    ):
        pushed = push(running, model, str(file), MODELPORT_API_KEY=keys[name])
        assert pushed.returncode == code, pushed.stderr
        assert text in pushed.stdout + pushed.stderr
        assert keys[name] not in pushed.stdout + pushed.stderr
    assert push(running, "new-1", str(file)).returncode == 1


def test_tritons_example_program(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    """It loads the model `simple` with another configuration, and expects seven models."""
    program = example_program("simple_http_model_control.py")
    for name in ("simple", *(f"other_{number}" for number in range(6))):
        add_fake(tmp_path / "repository", name, toml="max_batch_size = 8")
    running = gateway(tmp_path / "repository", "--allow-uploads").wait_ready()
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    assert "PASS: model control" in run_client(python, program, "-u", running.http)
