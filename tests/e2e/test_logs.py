"""The log of a real gateway as JSON, and its settings at run time, which reach every front."""

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from tests.support.gateway_process import Gateway, Reply
from tests.support.model_repositories import add_fake
from tests.support.v2_calls import Call, Value, as_json, as_message


def test_every_line_is_json_and_settings_reach_all_fronts(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    add_fake(repository, "broken", load_error="it is corrupt")
    running = gateway(repository, "--fronts", "2", "--log", "json").wait_ready()
    settings = running.post("/v2/logging", {"log_verbose_level": 1}).json()
    assert settings == {
        "log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 1,
        "log_format": "ISO8601",
    }  # fmt: skip
    for number in (1, 2):
        running.wait_for(rf'"level": "DEBUG", "logger": "front\.{number}"')
    # One that starts later has them, too.
    os.kill(running.front_pids()[0], signal.SIGKILL)
    running.wait_for(r'"level": "DEBUG", "logger": "front\.3"')
    assert running.post("/v2/logging", {"log_verbose_level": 0, "log_info": False}).status == 200
    shown = len(running.log)
    assert running.post("/v2/repository/models/m/load", {}).status == 200
    assert running.get("/v2/logging").json() == {**settings, "log_verbose_level": 0, "log_info": False}
    assert running.terminate() == 0
    running.close()
    lines: list[dict[str, Any]] = [json.loads(line) for line in running.log]
    assert {"time", "level", "logger", "message"} == set().union(*lines) - {"exception"}
    assert any(each["logger"] == "models" and "it is corrupt" in each["message"] for each in lines)
    assert any(each["logger"].startswith("front.") and each["message"] == "serving" for each in lines)
    # The last change itself was under way when the number of lines was taken.
    assert {each["level"] for each in lines[shown:]} <= {"DEBUG", "WARNING", "ERROR"}


def test_the_access_log_has_every_request_of_every_protocol(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    repository, path = tmp_path / "repository", tmp_path / "logs" / "access.jsonl"
    path.parent.mkdir()
    add_fake(repository, "m")
    running = gateway(repository, "--fronts", "2", "--access-log", str(path)).wait_ready()
    call = Call("m", (Value("x", "FP32", (1, 4), [1.0, 2.0, 3.0, 4.0]),))
    call_body, names = as_json(call), [f"http-{number}" for number in range(40)]

    def post(name: str) -> Reply:
        return running.post(f"{call.path}?secret=1", call_body, {"X-Request-Id": name})

    with ThreadPoolExecutor(8) as several:
        for name, answer in zip(names, several.map(post, names), strict=True):
            assert (answer.status, answer.headers["x-request-id"]) == (200, name)
    assert running.post("/predict/nosuch", {"inputs": [1]}, {"X-Request-Id": "http-wrong"}).status == 404
    # As logrotate does, but with the folder: it is moved, and the server opens another file, also without the signal.
    moved = path.parent.rename(tmp_path / "old") / path.name
    path.parent.mkdir()
    running.process.send_signal(signal.SIGHUP)
    assert running.get("/v2").status == 200
    message = as_message(call, raw=True).SerializeToString()
    with grpc.insecure_channel(running.grpc) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        _, answered = infer.with_call(message, metadata=[("x-request-id", "grpc-1")], timeout=60)
        assert ("x-request-id", "grpc-1") in answered.trailing_metadata()
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        assert len(list(stream(iter([message] * 2), metadata=[("x-request-id", "grpc-2")], timeout=60))) == 2
    assert 'modelport_log_dropped_total{log="access"} 0.0' in running.get("/metrics").body.decode()
    assert running.terminate() == 0
    texts = moved.read_text() + path.read_text()
    lines: list[dict[str, Any]] = [json.loads(line) for line in texts.splitlines()]
    assert "secret" not in texts
    every = [*names, "http-wrong", "grpc-1", "grpc-2"]
    of = {name: [line for line in lines if line["request_id"] == name] for name in every}
    assert {name: len(found) for name, found in of.items()} == {**dict.fromkeys(of, 1), "grpc-2": 2}
    assert {line["path"] for line in lines} >= {call.path, "/v2", "/inference.GRPCInferenceService/ModelStreamInfer"}
    for name in names:
        line = of[name][0]
        assert (line["model"], line["version"], line["http_status"], line["outcome"]) == ("m", "1", 200, "success")
        assert line["batch_rows"] >= 1
        assert line["bytes_in"] == len(call_body)
        assert line["duration_ms"] > line["compute_ms"] > 0
    assert (of["http-wrong"][0]["http_status"], of["http-wrong"][0]["outcome"]) == (404, "not_found")
    assert (of["grpc-1"][0]["grpc_status"], of["grpc-1"][0]["bytes_in"]) == ("OK", len(message))
    # Requests without an id have one of their own.
    assert all(line["request_id"] for line in lines)
    assert path.stat().st_size > 0
