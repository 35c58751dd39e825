"""Quotas of a real gateway with two fronts: what they admit together, over both protocols, and what is reported."""

import hashlib
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc

from gateway.generated import open_inference_pb2 as pb
from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake

KEY = "the-key-of-a-tester"
BURST = 6
# So slow that nothing comes in while the test runs.
QUOTA = f"requests_per_second = 0.0001\nburst = {BURST}\ncompute_seconds_per_minute = 30"

SLOW_FAILURE = ["python", "import time; time.sleep(0.3); raise RuntimeError"]


def test_all_fronts_together_admit_what_the_quota_states(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    identities = tmp_path / "identities.toml"
    identities.write_text(
        f'[anonymous]\nroles = ["health:*", "metrics"]\n'
        f'[identities.tester]\nkey_sha256 = ["{digest}"]\nroles = ["infer"]\n[identities.tester.quota]\n{QUOTA}\n'
    )
    log = tmp_path / "audit.jsonl"
    running = gateway(
        tmp_path / "repository", "--fronts", "2", "--identities", str(identities), "--audit-log", str(log)
    ).wait_ready()
    running.wait_for(r"front\.2: serving")
    statuses: Counter[object] = Counter()
    for _ in range(2 * BURST):  # each on a connection of its own, so that both fronts get some
        reply = running.post("/v2/models/m/infer", body(), headers={"X-API-Key": KEY})
        statuses[reply.status] += 1
        statuses[call(running)] += 1
        if reply.status == 429:
            assert 9_000 < int(reply.headers["retry-after"]) <= 10_000
            assert reply.json()["error"].startswith(
                "your limit of 0.0001 requests per second is reached; try again in "
            )
    assert statuses[200] + statuses[grpc.StatusCode.OK] == BURST
    assert statuses[429] + statuses[grpc.StatusCode.RESOURCE_EXHAUSTED] == 3 * BURST
    samples = (
        'modelport_identity_requests_total{identity="tester"} 6.0',
        'modelport_identity_refused_total{identity="tester",limit="requests_per_second"} 18.0',
    )
    metrics = ""
    # The other front reports within a second, and each sends what the audit log records every tenth of one.
    while not all(sample in metrics for sample in samples) or len(log.read_text().splitlines()) < 3 * BURST:
        metrics = running.get("/metrics").body.decode()
    for pid in running.front_pids():
        os.kill(pid, signal.SIGKILL)
    for number in (3, 4):
        running.wait_for(rf"front\.{number}: serving")
    running.wait_served("m")
    assert call(running) is grpc.StatusCode.RESOURCE_EXHAUSTED  # their successors know what was used
    assert running.terminate() == 0
    compute = re.search(r'modelport_identity_compute_seconds_total\{identity="tester"\} (\S+)', metrics)
    assert compute is not None
    assert float(compute[1]) > 0
    outcomes = Counter((line["identity"], line["outcome"]) for line in map(json.loads, log.read_text().splitlines()))
    assert outcomes == {("tester", "quota"): 3 * BURST + 1}


def test_requests_that_fail_while_their_model_runs_use_up_the_quota(
    gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    """Those that the model refuses after it has computed, and those that end their worker."""
    add_fake(tmp_path / "repository", "m", toml="execution_timeout_s = 0.5", tries={"5": SLOW_FAILURE})
    roles = 'roles = ["infer"]'
    lines = ['[anonymous]\nroles = ["health:*", "metrics"]']
    for name in ("erring", "hanging"):
        digest = hashlib.sha256(name.encode().ljust(40, b"-")).hexdigest()
        quota = f"[identities.{name}.quota]\ncompute_seconds_per_minute = 0.1"
        lines.append(f'[identities.{name}]\nkey_sha256 = ["{digest}"]\n{roles}\n{quota}')
    identities = tmp_path / "identities.toml"
    identities.write_text("\n".join(lines))
    running = gateway(tmp_path / "repository", "--fronts", "1", "--identities", str(identities)).wait_ready()
    for name, value in (("erring", 5.0), ("hanging", 777.0)):
        headers = {"X-API-Key": name.ljust(40, "-")}
        failed = running.post("/v2/models/m/infer", body(value), headers=headers)
        assert failed.status == 500
        refused = running.post("/v2/models/m/infer", body(), headers=headers)
        assert refused.status == 429
        assert "of compute time per minute" in refused.json()["error"]


def body(first: float = 1.0) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [first, 2.0, 3.0, 4.0]}
    return json.dumps({"inputs": [tensor]}).encode()


def call(running: Gateway) -> grpc.StatusCode:
    """Return the status of a call on a channel of its own."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    request = pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[bytes(16)])
    with grpc.insecure_channel(running.grpc, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answer = infer.future(request.SerializeToString(), metadata=[("x-api-key", KEY)], timeout=60)
        assert (answer.code() is grpc.StatusCode.OK) != ("retry-after" in dict(answer.trailing_metadata()))
        status: grpc.StatusCode = answer.code()
        return status
