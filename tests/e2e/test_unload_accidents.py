"""Workers that are killed while their version is being unloaded, with requests in progress."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.generated import open_inference_pb2 as pb
from tests.support.gateway_process import Gateway, Reply
from tests.support.model_repositories import add_fake

Start = Callable[..., Gateway]
ROW = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}]}
ANY, FIRST = "/v2/models/m/infer", "/v2/models/m/versions/1/infer"
SLOW = "max_batch_size = 0\nwarmup = 0\n"


def send(pool: ThreadPoolExecutor, running: Gateway, *paths: str) -> "list[Future[Reply]]":
    sent = [pool.submit(running.post, path, ROW) for path in paths]
    running.wait_in_flight("m", len(paths))
    return sent


def replace_version(running: Gateway, repository: Path) -> None:
    """Have version 2 take the place of version 1, whose worker still has requests."""
    add_fake(repository, "m", version="2")
    while running.get("/v2/models/m/versions/1").status != 404:
        pass  # each turn is a request
    assert running.get("/v2/models/m/versions/2/ready").status == 200


def answer(sent: "Future[Reply]") -> tuple[int, Any]:
    reply = sent.result(60)
    return reply.status, reply.json().get("model_version") or reply.json()["error"]


def test_its_requests_are_answered_by_the_version_that_is_loaded_now(gateway: Start, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m", toml=SLOW, waits_for=str(tmp_path / "never"))
    running = gateway(repository, "--grace-s", "300").wait_ready()
    (pid,) = running.worker_pids("m")
    with ThreadPoolExecutor(8) as pool:
        *moved, lost = send(pool, running, *[ANY] * 7, FIRST)
        replace_version(running, repository)
        os.kill(pid, signal.SIGKILL)
        assert [answer(each) for each in moved] == [(200, "2")] * 7
        reason = "version 1 was unloaded before it answered; send the request to a version that is loaded"
        assert answer(lost) == (503, f"model 'm' {reason}")
    running.wait_for("m version 1: its worker was killed by SIGKILL while it was being unloaded")


def test_so_are_those_that_came_over_grpc(gateway: Start, tmp_path: Path) -> None:
    repository, released = tmp_path / "repository", tmp_path / "released"
    add_fake(repository, "m", toml=SLOW, waits_for=str(released))
    released.touch()
    running = gateway(repository, "--grace-s", "300").wait_ready()
    (pid,) = running.worker_pids("m")
    row = pb.InferTensorContents(fp32_contents=[1.0, 2.0, 3.0, 4.0])
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4], contents=row)
    with grpc.insecure_channel(running.grpc) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        def ask(version: str = "") -> Any:
            message = pb.ModelInferRequest(model_name="m", model_version=version, inputs=[tensor])
            return infer.future(message.SerializeToString(), timeout=60)

        for version in ("", "1") * 4:  # the compiled path takes what it knows
            assert pb.ModelInferResponse.FromString(ask(version).result()).model_version == "1"
        released.unlink()
        *moved, lost = [*(ask() for _ in range(7)), ask("1")]
        running.wait_in_flight("m", 8)
        replace_version(running, repository)
        os.kill(pid, signal.SIGKILL)
        assert [pb.ModelInferResponse.FromString(each.result()).model_version for each in moved] == ["2"] * 7
        assert lost.exception().code() is grpc.StatusCode.UNAVAILABLE
        assert "version 1 was unloaded before it answered" in lost.exception().details()


@pytest.mark.parametrize("path", [ANY, FIRST])
def test_its_other_worker_answers_what_it_had(gateway: Start, tmp_path: Path, path: str) -> None:
    repository, released = tmp_path / "repository", tmp_path / "released"
    add_fake(repository, "m", toml=SLOW + "instances = 2\n", waits_for=str(released))
    running = gateway(repository, "--grace-s", "300").wait_ready()
    while 'modelport_workers_up{model="m",version="1"} 2.0' not in running.get("/metrics").body.decode():
        pass  # each turn is a scrape: the second instance is being started
    one, _ = running.worker_pids("m")
    with ThreadPoolExecutor(8) as pool:
        sent = send(pool, running, *[path] * 8)
        replace_version(running, repository)
        os.kill(one, signal.SIGKILL)
        released.touch()
        assert [answer(each) for each in sent] == [(200, "1")] * 8
    running.wait_for("m version 1 is unloaded")
