"""A gateway that drains: what it does between SIGTERM and the refusal of requests, and afterwards."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake


def test_while_draining_requests_are_answered_and_clients_leave(
    gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    add_fake(tmp_path / "repository", "m")
    flags = ["--drain-s", "60", "--grace-s", "70", "--grpc-server", "guarded"]
    running = gateway(tmp_path / "repository", *flags).wait_ready()
    with grpc.insecure_channel(running.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        running.process.send_signal(signal.SIGTERM)
        running.wait_for("draining: not ready any more; requests are accepted for another 60 s")
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert running.get("/v2/health/live").status == 200
        assert running.get("/v2/health/ready").status == 503
        for path in ("/v2/models/m/ready", "/v2/models/m"):
            assert running.get(path).status == 200
        reply = running.post("/predict/m", {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}})
        assert reply.status == 200, reply
        assert reply.headers["connection"] == "close"
        # By a connection of its own, because the first one was told to go away; the stream on that one goes on.
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert watch.is_active()
        watch.cancel()
    running.process.send_signal(signal.SIGTERM)  # the second one ends it
    running.process.wait(30)


def test_afterwards_requests_are_refused_and_those_in_progress_answered(
    gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    add_fake(tmp_path / "repository", "m")
    released = tmp_path / "released"
    add_fake(tmp_path / "repository", "slow", toml="max_batch_size = 0\nwarmup = 0", waits_for=str(released))
    flags = ["--drain-s", "0.5", "--grace-s", "60"]
    running = gateway(tmp_path / "repository", *flags).wait_ready()
    row = {"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]]}}
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(running.post, "/predict/slow", row)
        running.wait_in_flight("slow")
        running.process.send_signal(signal.SIGTERM)
        statuses = []
        while not statuses or statuses[-1] == 200:
            statuses.append(running.post("/predict/m", row).status)
        assert statuses[-1] == 503
        assert len(statuses) > 1, "some were accepted"
        released.touch()
        assert slow.result().status == 200
    assert running.process.wait(60) == 0
