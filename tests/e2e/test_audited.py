"""The audit log of a real gateway with two fronts."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from gateway.generated import open_inference_pb2 as pb
from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake
from tests.support.protocols import grpc_call


def test_what_changes_the_server_is_logged_without_identities(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    add_fake(tmp_path / "repository", "m")
    path = tmp_path / "audit.jsonl"
    running = gateway(tmp_path / "repository", "--fronts", "2", "--audit-log", str(path)).wait_ready()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert running.infer("m", {"x": [[1, 1, 1, 1]]}) == {"y": [[2, 2, 2, 2]]}
    assert running.get("/v2/models/m").status == 200
    assert running.post("/v2/repository/models/nosuch/unload?token=SECRET").status == 404
    assert running.post("/v2/repository/models/m/load").status == 200
    assert running.post("/v2/repository/models/m/load", headers={"Sec-Fetch-Site": "cross-site"}).status == 403
    with pytest.raises(grpc.RpcError):
        grpc_call(running, "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="other\n"), bytes_answer())
    assert running.terminate() == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [
        (line["request"], line["model"], line["outcome"]) for line in sorted(lines, key=lambda line: line["time"])
    ] == [
        ("POST /v2/repository/models/nosuch/unload", "nosuch", "not_found"),
        ("POST /v2/repository/models/m/load", "m", "ok"),
        ("POST /v2/repository/models/m/load", "m", "forbidden"),
        ("/inference.GRPCInferenceService/RepositoryModelLoad", "other\n", "not_found"),
    ]
    assert {(line["identity"], line["action"]) for line in lines} == {("anonymous", "admin")}
    assert all("127.0.0.1:" in line["peer"] for line in lines)


def bytes_answer() -> type:
    class Raw:
        FromString = staticmethod(bytes)

    return Raw
