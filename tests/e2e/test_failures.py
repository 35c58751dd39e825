"""Failures, with real processes, real signals and real load."""

import io
import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.ended_processes import wait_ended
from tests.support.gateway_process import Gateway
from tests.support.load_generator import Load
from tests.support.model_repositories import add_fake

Start = Callable[..., Gateway]


def row(value: float) -> dict[str, Any]:
    return {"inputs": {"x": [[value] * 4]}}


def harmless(number: int) -> dict[str, Any]:
    """Return a row without the values that the fake model reacts to."""
    return row(number + 1000)


def wrong_answers(load: Load) -> list[tuple[int, Any, Any]]:
    """Return all replies that are not 200 with y = 2x."""
    return [
        (status, body, sent)
        for status, body, sent in load.replies
        if status != 200 or body["outputs"]["y"] != [[2 * value for value in sent["inputs"]["x"][0]]]
    ]


def gone(pids: list[int]) -> bool:
    """Wait until the processes have ended. Return whether they have."""
    return wait_ended(pids) == []


def test_a_model_without_a_reason_has_one_all_the_same(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m", load_error="")
    running = gateway(tmp_path / "repository").wait_ready()
    assert running.index()[("m", "1")]["reason"] == "LoadError without a message"


def test_workers_killed_again_and_again_lose_no_request(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", seconds_per_batch=0.002)
    running = gateway(repository).wait_ready()
    with Load(running.http, "/predict/m", harmless, clients=16) as load:
        for _ in range(8):
            load.wait_answers(100)
            (pid,) = running.worker_pids("m")
            mark = len(running.log)
            os.kill(pid, signal.SIGKILL)
            running.wait_for(r"m version 1: its worker was killed by SIGKILL; restarting", mark)
            load.wait_answers(20)
    assert wrong_answers(load) == []
    assert 'modelport_worker_restarts_total{model="m",version="1"} 8.0' in running.get("/metrics").body.decode()


def test_a_worker_that_dies_while_new_files_are_loaded_loses_no_request(gateway: Start, tmp_path: Path) -> None:
    """It cannot be replaced, because its own file is gone, so that its requests wait for the new one."""
    folder = add_fake(tmp_path / "repository", "m").parent
    new = add_fake(tmp_path / "new", "m", prints="the new content", load_seconds=1.5)
    new.rename(new.with_name("retrained.fake.json"))
    running = gateway(tmp_path / "repository").wait_ready()
    (pid,) = running.worker_pids("m")
    with Load(running.http, "/predict/m", harmless, clients=4) as load:
        load.wait_answers(20)
        folder.rename(tmp_path / "old")
        new.parent.rename(folder)
        running.wait_for("the new content")
        mark = len(running.log)
        os.kill(pid, signal.SIGKILL)
        running.wait_for(r"m version 1 is READY", mark)
        load.wait_answers(20)
    assert wrong_answers(load) == []


def test_a_worker_that_dies_before_another_version_takes_over_loses_no_request(gateway: Start, tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m", load_seconds=1.5)
    running = gateway(tmp_path / "repository").wait_ready()
    (pid,) = running.worker_pids("m")
    with Load(running.http, "/predict/m", harmless, clients=4) as load:
        load.wait_answers(20)
        add_fake(tmp_path / "repository", "m", version="2", prints="the second version", load_seconds=0.5)
        running.wait_for("the second version")
        os.kill(pid, signal.SIGKILL)
        running.wait_for(r"m version 1 is unloaded")
        load.wait_answers(20)
    assert wrong_answers(load) == []


def test_workers_and_fronts_killed_while_large_inputs_lie_in_shared_memory(gateway: Start, tmp_path: Path) -> None:
    """The inputs have 300 kB each. The front that received them keeps them, and the next worker reads them there."""
    repository = tmp_path / "repository"
    wide = {"datatype": "FP32", "shape": [-1, 75_000]}
    add_fake(repository, "m", inputs=[{"name": "x", **wide}], outputs=[{"name": "y", **wide}], seconds_per_batch=0.01)
    # Room for about half of what the clients send at a time: the rest is sent inline.
    running = gateway(repository, "--fronts", "2", "--max-admitted-bytes", str(8 << 20)).wait_ready()

    def large(number: int) -> bytes:
        stream = io.BytesIO()
        np.save(stream, np.full((1, 75_000), number % 300 + 1000, np.float32))
        return stream.getvalue()

    as_npy = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    with Load(running.http, "/predict/m", large, clients=12, headers=as_npy) as load:
        for _ in range(5):
            load.wait_answers(40)
            (pid,) = running.worker_pids("m")
            mark = len(running.log)
            os.kill(pid, signal.SIGKILL)
            running.wait_for(r"m version 1: its worker was killed by SIGKILL; restarting", mark)
        load.wait_answers(40)
        assert {status for status, _, _ in load.replies} <= {200, 429}
        mark = len(running.log)
        os.kill(running.front_pids()[0], signal.SIGKILL)
        running.wait_for(r"front\.\d+: serving", mark)
        load.wait_answers(100)
    for status, answer, sent in load.replies:
        if status == 200:
            assert np.array_equal(np.load(io.BytesIO(answer)), 2 * np.load(io.BytesIO(sent)))
    assert {status for status, _, _ in load.replies[-50:]} <= {200, 429}
    assert sum(status == 200 for status, _, _ in load.replies) > 200


def test_a_poison_request_fails_alone(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", seconds_per_batch=0.005)
    running = gateway(repository).wait_ready()
    with Load(running.http, "/predict/m", harmless, clients=16) as load:
        load.wait_answers(50)
        reply = running.post("/predict/m", row(666))
        load.wait_answers(50)
    assert reply.status == 500
    assert "worker died while it ran this request" in reply.json()["error"]
    assert wrong_answers(load) == []


def test_a_hung_batch_is_killed_at_its_timeout(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml="execution_timeout_s = 0.5")
    running = gateway(repository).wait_ready()
    reply = running.post("/predict/m", row(777))
    assert reply.status == 500
    running.wait_for(r"a batch ran for longer than execution_timeout_s = 0.5")
    assert running.infer("m", {"x": [[1, 1, 1, 1]]}) == {"y": [[2, 2, 2, 2]]}


def test_a_model_that_keeps_dying_backs_off_and_the_others_serve_on(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "crashing", load_crash=True)
    add_fake(repository, "good")
    running = gateway(repository)
    running.wait_for(r"crashing version 1 is UNAVAILABLE: its worker ended with exit code 1, 3 times while loading")
    running.wait_ready()
    delays = [found for line in running.log for found in re.findall(r"crashing .* restarting (.+)", line)]
    assert delays[:3] == ["immediately", "in 0.05 s", "in 0.1 s"]
    assert running.infer("good", {"x": [[1, 1, 1, 1]]}) == {"y": [[2, 2, 2, 2]]}
    reply = running.post("/predict/crashing", row(1))
    assert reply.status == 503
    assert "exit code 1" in reply.json()["error"]


def no_artifact(repository: Path) -> None:
    (repository / "broken/1").mkdir(parents=True)
    (repository / "broken/1/notes.txt").write_text("todo")


def no_version(repository: Path) -> None:
    (repository / "broken").mkdir()
    (repository / "broken/model.toml").touch()


def wrong_toml(repository: Path) -> None:
    add_fake(repository, "broken", toml="max_batch = 4")


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "load error": (lambda repo: add_fake(repo, "broken", load_error="it has no header"), "1", "it has no header"),
    "no artifact": (no_artifact, "1", "no artifact that a runtime reads: it holds notes.txt; supported are"),
    "no version": (no_version, "", "it has no version folder"),
    "wrong model.toml": (wrong_toml, "", "broken/model.toml: there is no key 'max_batch'; the keys are"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_model_says_why_everywhere(gateway: Start, tmp_path: Path, kind: str) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "good")
    break_it, version, said = BROKEN[kind]
    break_it(repository)
    running = gateway(repository).wait_ready()
    running.wait_for(r"broken( version 1)? is UNAVAILABLE: .*" + re.escape(said))
    entry = running.index()["broken", version]
    assert entry["state"] == "UNAVAILABLE"
    assert said in entry["reason"]
    reply = running.post("/predict/broken", row(1))
    assert (reply.status, said in reply.json()["error"]) == (503, True)
    assert running.get("/v2/models/broken/ready").status == 503
    assert running.get("/v2/models/good/ready").status == 200
    assert running.get("/v2/health/ready").status == 200


def test_a_model_that_breaks_at_once_does_not_make_the_server_ready(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "a_broken", toml="max_batch = 4")
    add_fake(repository, "b_slow", load_seconds=3)
    running = gateway(repository)
    running.wait_for(r"front\.\d+: serving")
    while len(running.index()) < 2:
        pass  # each turn is a request
    assert running.index()["b_slow", "1"]["state"] == "LOADING"
    assert running.get("/v2/health/ready").status == 503
    running.wait_for(r"models: startup is complete: 1 of 2")


def test_a_worker_that_hangs_while_it_loads_is_killed(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml="load_timeout_s = 0.5", load_seconds=3600)
    running = gateway(repository)
    running.wait_for(r"m version 1 is UNAVAILABLE: it loaded for longer than load_timeout_s = 0.5, 3 times")
    assert running.terminate() == 0


def test_strict_readiness_wants_every_model(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "broken", load_error="no")
    add_fake(repository, "good")
    running = gateway(repository, "--strict-readiness")
    running.wait_for(r"models: startup is complete: 1 of 2")
    assert running.get("/v2/health/live").status == 200
    assert running.get("/v2/health/ready").status == 503


def test_sigterm_answers_what_is_under_way_and_refuses_what_is_new(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "slow", toml="max_batch_size = 0\nwarmup = 0", seconds_per_batch=2.0)
    running = gateway(repository).wait_ready()
    pids = [running.process.pid, *running.worker_pids("slow"), *running.front_pids()]
    with (
        Load(running.http, "/predict/slow", harmless, clients=1, most=1) as load,
        socket.create_connection(running.http.split(":")) as late,
    ):
        running.wait_in_flight("slow")
        running.process.send_signal(signal.SIGTERM)
        running.wait_for(r"front\.\d+: draining")
        body = b'{"inputs": [[1, 1, 1, 1]]}'
        late.sendall(
            b"POST /predict/slow HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (len(body), body)
        )
        answer = b"".join(iter(lambda: late.recv(1 << 16), b""))
        load.wait_total(1)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"shutting down" in answer
    assert wrong_answers(load) == []
    assert running.process.wait(60) == 0
    assert gone(pids)


def test_nothing_is_left_behind_when_the_parent_is_killed(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "hanging")
    running = gateway(repository, "--fronts", "2").wait_ready()
    pids = [*running.worker_pids("hanging"), *running.front_pids()]
    assert len(pids) == 3
    with Load(running.http, "/predict/hanging", lambda _: row(777), clients=1, most=1):
        running.wait_in_flight("hanging")
        running.process.kill()
        assert gone(pids)


def test_a_killed_front_is_replaced_and_a_stopped_one_slows_no_other(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    running = gateway(repository, "--fronts", "2").wait_ready()
    first, second = running.front_pids()
    mark = len(running.log)
    os.kill(first, signal.SIGKILL)
    running.wait_for(r"front \d+ exited with code -9; replacing it", mark)
    running.wait_for(r"front\.\d+: serving", mark)
    assert len(running.front_pids()) == 2
    os.kill(second, signal.SIGSTOP)
    try:
        # Each request opens a new connection. Only a running front accepts it, so none waits for the stopped one.
        for value in range(200):
            assert running.infer("m", {"x": [[value] * 4]}) == {"y": [[2 * value] * 4]}
    finally:
        os.kill(second, signal.SIGCONT)
    assert "modelport_front_restarts_total 1.0" in running.get("/metrics").body.decode()
