"""A gateway that drains: what it does between SIGTERM and the refusal of requests, and afterwards."""

import gzip
import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.gateway_process import Gateway
from tests.support.image_files import save
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


def test_what_was_received_whole_is_answered_although_threads_still_read_it(
    gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    add_fake(tmp_path / "repository", "m", toml='[preprocess]\nsize = [2, 2]\ncolor = "GRAY"\nlayout = "flat"\n')
    running = gateway(tmp_path / "repository", "--grace-s", "60").wait_ready()
    # Each fits into one packet, and takes a thread a tenth of a second.
    image = save(np.zeros((4000, 4000), np.uint8)), {"Content-Type": "image/png"}
    rows = gzip.compress(json.dumps({"inputs": {"x": [[1.0, 2.0, 3.0, 4.0]] * 100_000}}).encode())
    bodies = [image, (rows, {"Content-Encoding": "gzip", "Content-Type": "application/json"})] * 4
    clients = [HTTPConnection(running.http, timeout=60) for _ in range(len(bodies) + 1)]
    for client in clients:
        client.request("GET", "/v2/health/live")
        client.getresponse().read()
    for client, (body, headers) in zip(clients, bodies, strict=False):
        client.request("POST", "/predict/m", body, headers)
    clients[-1].request("GET", "/v2/health/live")  # the front reads what came before, first
    assert clients[-1].getresponse().status == 200
    running.process.send_signal(signal.SIGTERM)
    running.wait_for("draining: new requests are rejected")
    answers = [client.getresponse() for client in clients[:-1]]
    assert [answer.status for answer in answers] == [200] * len(bodies), [answer.read() for answer in answers]
    for client in clients:
        client.close()
    assert running.process.wait(60) == 0
