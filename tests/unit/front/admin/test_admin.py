"""The admin app: metadata, health, the repository, metrics, documents."""

import gzip
from typing import Any

import grpc
import pytest

from gateway.front.dialects.v2.metadata import EXTENSIONS
from gateway.generated import open_inference_pb2 as pb
from tests.support.front_server import LIMITS, Serving


def test_server_metadata(serving: Serving) -> None:
    metadata = serving.http.get("/v2").json()
    assert metadata["name"] == "modelport"
    assert metadata["extensions"] == list(EXTENSIONS)
    serving.engine.shared_memory.enabled = True
    assert serving.http.get("/v2").json()["extensions"] == [*EXTENSIONS, "system_shared_memory"]
    assert serving.http.get("/v2/health/live").status_code == 200
    assert serving.http.get("/v2/health/ready").status_code == 200
    serving.engine.ready = False
    assert serving.http.get("/v2/health/ready").status_code == 503
    assert serving.http.get("/v2/health/live").status_code == 200


def test_model_metadata(serving: Serving) -> None:
    assert "doubler" in serving.http.get("/v2/models").json()["models"]
    expected = {
        "name": "doubler",
        "versions": ["1"],
        "platform": "fake",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
    assert serving.http.get("/v2/models/doubler").json() == expected
    assert serving.http.get("/v2/models/doubler/versions/1").json() == expected
    assert serving.http.get("/v2/models/doubler/ready").status_code == 200
    assert serving.http.get("/v2/models/doubler/versions/1/ready").status_code == 200
    assert serving.http.get("/v2/models/broken/ready").status_code == 503


@pytest.mark.parametrize(("model", "datatype", "shape"), [("untyped", "", [-1]), ("taught", "FP64", [-1, 2])])
def test_metadata_has_what_is_known_so_far(serving: Serving, model: str, datatype: str, shape: list[int]) -> None:
    metadata = serving.http.get(f"/v2/models/{model}").json()
    assert metadata["inputs"] == [{"name": "x", "datatype": datatype, "shape": shape}]
    assert metadata["outputs"] == [{"name": "y", "datatype": datatype, "shape": shape}]


def test_a_model_that_never_loaded_has_no_inputs(serving: Serving) -> None:
    metadata = serving.http.get("/v2/models/broken").json()
    assert (metadata["versions"], metadata["inputs"], metadata["outputs"]) == (["2"], [], [])


def test_the_repository_can_be_listed_and_changed(serving: Serving) -> None:
    every = serving.http.post("/v2/repository/index").json()
    ready = serving.http.post("/v2/repository/index", json={"ready": True}).json()
    assert {entry["name"] for entry in every} - {entry["name"] for entry in ready} == {"broken"}
    assert {"name": "broken", "version": "2", "state": "UNAVAILABLE", "reason": "its artifact is cut off"} in every
    assert serving.http.post("/v2/repository/models/doubler/load").status_code == 200
    unload = {"parameters": {"unload_dependents": False}}
    assert serving.http.post("/v2/repository/models/doubler/unload", json=unload).status_code == 200


def test_metrics_are_prometheus_text(serving: Serving) -> None:
    reply = serving.http.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert reply.text == "# no metrics here\n"
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    assert serving.http.get("/metrics", headers=accept).headers["content-type"] == "application/openmetrics-text"


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/v2/nothing", b"", 404),
        ("GET", "/v2/models/nosuch", b"", 404),
        ("GET", "/v2/models/doubler/versions/9", b"", 404),
        ("GET", "/v2/models/nosuch/ready", b"", 404),
        ("POST", "/v2/health/live", b"", 405),
        ("POST", "/v2/models/a/b/infer", b"", 404),
        ("POST", "/v2/models//infer", b"", 404),
        ("POST", "/predict/", b"", 404),
        ("POST", "/predict/doubler/", b"", 404),
        ("GET", "/v2/models/doubler/", b"", 404),
        ("GET", "/v2/", b"", 404),
        ("GET", "/v2/repository/index", b"", 405),
        ("POST", "/v2/repository/index", b"{", 400),
        ("POST", "/v2/repository/index", b"[]", 400),
        ("POST", "/v2/repository/index", b'{"ready": 1}', 400),
        ("POST", "/v2/repository/index", b"[" * 100_000, 400),
        ("POST", "/v2/repository/index", b" " * (LIMITS.json_bytes + 1), 413),
        ("POST", "/v2/repository/models/nosuch/load", b"", 404),
        ("POST", "/v2/repository/models/nosuch/unload", b"", 404),
        ("POST", "/v2/repository/models/doubler/load", b'{"parameters": []}', 400),
        ("POST", "/v2/repository/models/doubler/load", b'{"parameters": {"config": "{}"}}', 501),
    ],
)
def test_errors_have_one_form(serving: Serving, method: str, path: str, content: bytes, status: int) -> None:
    reply = serving.http.request(method, path, content=content)
    assert reply.status_code == status
    assert list(reply.json()) == ["error"]
    assert isinstance(reply.json()["error"], str)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("POST", "/v2/health/live", "GET"), ("GET", "/v2/repository/index", "POST"), ("PUT", "/v1/models/doubler", "GET")],
)
def test_405_names_the_allowed_methods(serving: Serving, method: str, path: str, allow: str) -> None:
    reply = serving.http.request(method, path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allow)
    assert reply.json() == {"error": f"this path accepts {allow}, not {method}"}


def test_bodies_may_be_compressed(serving: Serving) -> None:
    def ask(content: bytes, encoding: str) -> tuple[int, Any]:
        reply = serving.http.post("/v2/repository/index", content=content, headers={"Content-Encoding": encoding})
        return reply.status_code, reply.json()

    status, listed = ask(gzip.compress(b'{"ready": true}'), "gzip")
    assert (status, [entry["state"] for entry in listed]) == (200, ["READY"] * len(listed))
    status, document = ask(gzip.compress(bytes(1 << 20)), "gzip")
    assert (status, "the decompressed body is over the limit" in document["error"]) == (413, True)
    assert ask(b"{}", "br")[0] == 400


def test_a_body_that_no_such_path_needs_is_not_kept(serving: Serving) -> None:
    """These bodies are not reserved, so they must be small, even if the limit for JSON is larger."""
    reply = serving.http.post("/v2/repository/index", content=b" " * (LIMITS.json_bytes // 2))
    assert (reply.status_code, "over the limit" in reply.json()["error"]) == (413, True)


def test_load_balancers_may_ask_with_head(serving: Serving) -> None:
    for path, ready, status in (("live", True, 200), ("ready", True, 200), ("live", False, 200), ("ready", False, 503)):
        serving.engine.ready = ready
        reply = serving.http.head(f"/v2/health/{path}")
        assert (reply.status_code, reply.content) == (status, b"")


def test_the_documents_show_the_hot_paths_too(serving: Serving) -> None:
    paths = serving.http.get("/openapi.json").json()["paths"]
    assert {"/v2", "/predict", "/predict/{model}", "/v2/models/{model}/infer"} <= set(paths)
    assert serving.http.get("/docs").status_code == 200


def test_kserve_v1_health_and_tensorflow_servings_share_a_path(serving: Serving) -> None:
    assert serving.http.get("/").json() == {"status": "alive"}
    assert "doubler" in serving.http.get("/v1/models").json()["models"]
    status = serving.http.get("/v1/models/doubler").json()
    assert (status["name"], status["ready"], status["model_version_status"][0]["state"]) == (
        "doubler",
        True,
        "AVAILABLE",
    )
    not_ready = next(model.name for model in serving.engine.models() if model.state == "UNAVAILABLE")
    reply = serving.http.get(f"/v1/models/{not_ready}")
    assert (reply.status_code, reply.json()["ready"]) == (200, False)


def test_the_server_name_is_configurable(serving: Serving) -> None:
    serving.engine.server_name = "triton"
    assert serving.http.get("/v2").json()["name"] == "triton"


def test_cuda_regions_are_none_and_cannot_be_registered(serving: Serving) -> None:
    serving.engine.shared_memory.enabled = True
    assert serving.http.get("/v2/cudasharedmemory/status").json() == []
    assert serving.http.post("/v2/cudasharedmemory/unregister").status_code == 200
    assert serving.http.post("/v2/cudasharedmemory/region/r/register", json={}).status_code == 501
    assert serving.http.get("/v2/cudasharedmemory/region/r/status").status_code == 404


def test_log_settings_by_rest_and_grpc(serving: Serving) -> None:
    before = serving.http.get("/v2/logging").json()
    change = {"log_info": False, "log_verbose_level": 2, "log_format": "ISO8601", "log_error": None, "log_file": ""}
    changed = serving.http.post("/v2/logging", json=change).json()
    assert changed == {**before, "log_info": False, "log_verbose_level": 2, "log_format": "ISO8601"}
    answer = pb.LogSettingsResponse.FromString(serving.call("LogSettings", b""))
    values = {name: getattr(each, each.WhichOneof("parameter_choice")) for name, each in answer.settings.items()}
    assert values == changed
    for body, status in (({"log_info": "no"}, 400), ({"log_file": "a"}, 501), ({"log_level": 1}, 400), ([], 400)):
        refused = serving.http.post("/v2/logging", json=body)
        assert (refused.status_code, list(refused.json())) == (status, ["error"])
    message = pb.LogSettingsRequest()
    message.settings["log_verbose_level"].bool_param = True
    with pytest.raises(grpc.RpcError) as caught:
        serving.call("LogSettings", message.SerializeToString())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert serving.http.post("/v2/logging").json() == changed
    restored = pb.LogSettingsRequest()
    for name, value in before.items():
        kind = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
        setattr(restored.settings[name], kind, value)
    serving.call("LogSettings", restored.SerializeToString())
    assert serving.http.get("/v2/logging").json() == before


def test_trace_settings_by_rest_and_grpc(serving: Serving) -> None:
    every, one = "/v2/trace/setting", "/v2/models/doubler/trace/setting"
    before = serving.http.get(every).json()
    on = {**before, "trace_level": ["TIMESTAMPS"], "trace_rate": "7"}
    assert serving.http.post(one, json={"trace_level": ["TIMESTAMPS"], "trace_rate": "7"}).json() == on
    assert serving.http.get(every).json() == before
    message = pb.TraceSettingRequest(model_name="doubler")
    assert _trace_settings(serving, message) == {
        "trace_level": ["TIMESTAMPS"], "trace_rate": ["7"], "trace_count": ["-1"], "trace_mode": ["opentelemetry"]
    }  # fmt: skip
    message.settings["trace_level"].value[:] = []
    message.settings["trace_rate"].value.append("8")
    assert _trace_settings(serving, message)["trace_rate"] == ["8"]
    assert serving.http.get(one).json() == {**before, "trace_rate": "8"}
    assert serving.http.post(one, json={"trace_rate": None}).json() == before
    for path in (every, one):
        refused = serving.http.post(path, json={"trace_file": "a"})
        assert (refused.status_code, list(refused.json())) == (501, ["error"])
    assert serving.http.get("/v2/models/nosuch/trace/setting").status_code == 404
    message.settings["trace_rate"].value.append("9")
    with pytest.raises(grpc.RpcError, match="'trace_rate' must have one value, not 2"):
        _trace_settings(serving, message)


def _trace_settings(serving: Serving, message: pb.TraceSettingRequest) -> dict[str, list[str]]:
    answer = pb.TraceSettingResponse.FromString(serving.call("TraceSetting", message.SerializeToString()))
    return {name: list(setting.value) for name, setting in answer.settings.items()}
