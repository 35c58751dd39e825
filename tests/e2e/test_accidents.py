"""Failures that once affected more than they should."""

import json
import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.support.ended_processes import wait_ended
from tests.support.gateway_process import Gateway
from tests.support.load_generator import Load
from tests.support.model_repositories import add_fake
from tests.unit.repository.test_scan import corrupt_archive, file_name_that_is_not_utf8, name_that_is_not_utf8

Start = Callable[..., Gateway]
ONE_BY_ONE = "max_batch_size = 0\nwarmup = 0\n"


def row(value: float) -> dict[str, Any]:
    return {"inputs": {"x": [[value] * 4]}}


def harmless(number: int) -> dict[str, Any]:
    return row(number + 1000)


def open_request(running: Gateway, path: str, body: bytes, headers: str = "") -> socket.socket:
    """Send a request and return the socket, so that the caller can read the answer."""
    host, port = running.http.rsplit(":", 1)
    sock = socket.create_connection((host, int(port)))
    sock.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body)
    return sock


def test_folders_that_cannot_be_understood_harm_nothing_beside_them(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "good")
    running = gateway(repository).wait_ready()
    for number, break_it in enumerate((corrupt_archive, name_that_is_not_utf8, file_name_that_is_not_utf8)):
        mark = len(running.log)
        break_it(repository)
        running.wait_for(r"broken.* is UNAVAILABLE: ", mark)
        assert running.infer("good", row(number)["inputs"]) == {"y": [[2 * number] * 4]}
        assert [running.get(path).status for path in ("/metrics", "/v2/models")] == [200, 200]
        assert running.post("/v2/repository/index", {}).status == 200, running.log[-30:]
        for left in os.listdir(os.fsencode(repository)):
            if left.startswith(b"broken"):
                shutil.rmtree(os.fsencode(repository) + b"/" + left)


def test_a_repository_that_vanishes_and_comes_back(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    running = gateway(repository).wait_ready()
    mark = len(running.log)
    repository.rename(tmp_path / "elsewhere")
    running.wait_for("does not exist; it must be a model repository or an artifact", mark)
    assert running.infer("m", row(1)["inputs"]) == {"y": [[2] * 4]}
    (tmp_path / "elsewhere").rename(repository)
    add_fake(repository, "m", "2")
    running.wait_for(r"m version 1 is unloaded", mark)
    assert running.post("/predict/m", row(1)).json()["version"] == "2"


def test_a_death_of_the_old_version_while_the_new_one_loads_loses_nothing(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", "1")
    running = gateway(repository).wait_ready()
    with Load(running.http, "/predict/m", harmless, clients=8) as load:
        load.wait_answers(50)
        add_fake(repository, "m", "2", load_seconds=3)
        while ("m", "2") not in running.index():
            pass  # each turn is a request
        (pid,) = (pid for pid in running.worker_pids("m") if "m-1" in worker_name(running, pid))
        os.kill(pid, signal.SIGKILL)
        running.wait_for(r"m version 1: its worker was killed by SIGKILL; restarting")
        running.wait_for(r"m version 2 is READY")
        running.wait_for(r"m version 1 is unloaded")
        load.wait_answers(50)
    assert load.failures() == []


def worker_name(running: Gateway, pid: int) -> str:
    found = re.search(rf'open_fds{{pid="{pid}",process="([^"]*)"', running.get("/metrics").body.decode())
    return found[1] if found else ""


def test_a_child_of_a_worker_neither_hides_its_death_nor_survives_it(gateway: Start, tmp_path: Path) -> None:
    package = tmp_path / "plugin" / "breeding"
    info = tmp_path / "plugin" / "breeding-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "names.py").write_text('DATATYPE = "FP32"\n')
    (package / "runtime.py").write_text(
        "import subprocess\n"
        "from runtimes.contract import Model, Signature, TensorSpec\n"
        "from .names import DATATYPE\n\n\n"
        "class Breeding(Model):\n"
        '    x, y = TensorSpec("x", DATATYPE, (-1,)), TensorSpec("y", DATATYPE, (-1,))\n'
        '    signatures = {"s": Signature((x,), (y,))}\n\n'
        "    def infer(self, inputs, outputs, signature):\n"
        '        return {"y": inputs["x"]}\n\n\n'
        "def load(options):\n"
        '    print("child", subprocess.Popen(["sleep", "600"]).pid)\n'
        "    return Breeding()\n"
    )
    (package / "runtime.toml").write_text(
        'title = "Breeding"\npythons = ">=3.8"\n[[formats]]\nplatform = "breeding"\nfiles = ["*.breeding"]\n'
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: breeding\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelport.runtimes]\nbreeding = breeding\n")
    (tmp_path / "repository" / "m" / "1").mkdir(parents=True)
    (tmp_path / "repository" / "m" / "1" / "model.breeding").touch()
    running = gateway(
        tmp_path / "repository", "--no-sandbox", "--python", f"breeding={psutil.Process().exe()}"
    ).wait_ready()
    child = psutil.Process(int(running.wait_for(r"worker\.m: child (\d+)")[1]))
    (pid,) = running.worker_pids("m")
    mark = len(running.log)
    os.kill(pid, signal.SIGKILL)
    running.wait_for(r"m version 1: its worker was killed by SIGKILL; restarting", mark)
    running.wait_for(r"worker\.m: child", mark)
    assert running.infer("m", {"x": [1, 2]}) == {"y": [1, 2]}
    assert wait_ended([child]) == []


def test_files_that_are_put_back_find_their_worker_again(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    first = add_fake(repository, "m", toml=ONE_BY_ONE, seconds_per_batch=3)
    first.rename(tmp_path / "kept")
    shutil.copy2(tmp_path / "kept", first)
    running = gateway(repository).wait_ready()
    with open_request(running, "/predict/m", json.dumps(row(1)).encode()) as slow:
        running.wait_in_flight("m")
        mark = len(running.log)
        add_fake(repository, "m", prints="second")
        running.wait_for(r"m version 1 is unloaded", mark)
        shutil.copy2(tmp_path / "kept", first)
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 200")
    mark = len(running.log)
    running.wait_for(r"m version 1 is unloaded", mark - 1)
    for value in (2, 3):
        assert running.infer("m", row(value)["inputs"]) == {"y": [[2 * value] * 4]}


def test_one_model_that_hangs_leaves_room_for_the_others(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "hanging", toml=ONE_BY_ONE)
    add_fake(repository, "good")
    running = gateway(repository, "--max-requests", "8").wait_ready()
    body = json.dumps(row(777)).encode()
    socks = [open_request(running, "/predict/hanging", body) for _ in range(4)]
    running.wait_in_flight("hanging", 4)
    assert running.post("/predict/hanging", row(1)).status == 429
    assert running.infer("good", row(1)["inputs"]) == {"y": [[2] * 4]}
    for sock in socks:
        sock.close()


def test_a_hung_request_is_answered_when_the_grace_period_ends(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml=ONE_BY_ONE)
    running = gateway(repository, "--grace-s", "1").wait_ready()
    with open_request(running, "/predict/m", json.dumps(row(777)).encode(), "connection: close\r\n") as sock:
        running.wait_in_flight("m")
        assert running.terminate() == 0
        answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"the gateway stopped before the model answered" in answer
    assert not [line for line in running.log if "Traceback" in line]


def test_a_second_signal_ends_it_without_waiting(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml=ONE_BY_ONE)
    running = gateway(repository, "--grace-s", "3000").wait_ready()
    with open_request(running, "/predict/m", json.dumps(row(777)).encode()):
        running.wait_in_flight("m")
        running.process.send_signal(signal.SIGINT)
        running.wait_for(r"front\.\d+: draining")
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0


def test_a_signal_during_the_start_is_not_lost(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m", load_seconds=600)
    running = gateway(tmp_path / "repository", "--grace-s", "3000")
    assert running.terminate() == 0
    assert not [line for line in running.log if "did not leave in time" in line]


def test_an_answer_on_its_way_to_a_slow_reader_is_finished(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m", toml="max_batch_size = 0")
    running = gateway(tmp_path / "repository").wait_ready()
    values = b"\0" * (24 << 20)
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [len(values) // 16, 4],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(values)},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    headers = f"inference-header-content-length: {len(head)}\r\nconnection: close\r\n"
    with open_request(running, "/v2/models/m/infer", head + values, headers) as sock:
        answer = sock.recv(1 << 12)
        assert answer.startswith(b"HTTP/1.1 200")
        running.process.send_signal(signal.SIGTERM)
        running.wait_for(r"front\.\d+: draining")
        while chunk := sock.recv(1 << 20):
            answer += chunk
    assert len(answer) > len(values)
    assert running.process.wait(60) == 0


def test_what_a_killed_gateway_left_is_tidied_by_the_next(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    scratch = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's tmp_path is too long for a socket's path
    killed = gateway(tmp_path / "repository", TMPDIR=str(scratch)).wait_ready()
    killed.process.kill()
    killed.process.wait()
    (left,) = scratch.iterdir()
    alive = gateway(tmp_path / "repository", TMPDIR=str(scratch)).wait_ready()
    assert not left.exists()
    gateway(tmp_path / "repository", TMPDIR=str(scratch)).wait_ready()
    assert alive.infer("m", row(1)["inputs"]) == {"y": [[2] * 4]}
    alive.close()
    shutil.rmtree(scratch)
