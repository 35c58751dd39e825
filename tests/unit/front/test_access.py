"""The three doors: if Access denies, no request passes any of them. Each request is checked once."""

import gc
import json
import re
import weakref
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, get_args

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gateway.domain.caller import Caller, Event
from gateway.domain.identity import Action, Identity
from gateway.engine.fake import FakeEngine
from gateway.errors import Forbidden, ModelportError, QuotaExceeded, Unauthenticated
from gateway.front.admin.app import build_admin
from gateway.front.dialects.registry import DIALECTS
from gateway.generated import open_inference_pb2 as pb
from gateway.generated import tensorflow_pb2 as tf
from gateway.generated import tensorflow_serving_pb2 as tfs
from gateway.process.address import GrpcServer
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import LIMITS, WAIT_S, Serving, in_thread
from tests.support.v2_calls import as_json, as_message
from tests.unit.front.http.test_http import Answers

GOOD = good_call(Subject())
PLAIN = json.dumps({"inputs": [[1.0, 2.0, 3.0]]}).encode()
NAMED = json.dumps({"model": "doubler", "inputs": [[1.0, 2.0, 3.0]]}).encode()
ROWS = json.dumps({"instances": [[1.0, 2.0, 3.0]]}).encode()
# A valid request for each dialect.
HOT = [
    (GOOD.path, as_json(GOOD)),
    ("/predict/doubler", PLAIN),
    ("/predict", NAMED),
    ("/v1/models/doubler:predict", ROWS),
    ("/predictions/doubler", PLAIN),
]
DENIED = "the caller may not do this here"


class Asked(Identity):
    """Tells the guard what it is asked for."""

    def __init__(self, guard: "Guard") -> None:
        super().__init__("someone", {})
        self.guard = guard

    def allows(self, action: Action, model: str = "") -> bool:
        """Listings have everything. The check decides about all the rest."""
        return action == "read"

    def check(self, action: Action, model: str = "") -> None:
        self.guard.actions.append((action, model))
        if self.guard.error is not None:
            raise self.guard.error


class Guard:
    """Knows one client. Records what it is asked for and told, and raises the error that the test sets."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.actions: list[tuple[Action, str]] = []
        self.callers: list[Caller] = []
        self.events: list[Event] = []
        self.error: ModelportError | None = Forbidden(DENIED)
        self.identity = Asked(self)
        self.strangers: list[ModelportError] = []  # each is raised once

    def identify(self, caller: Caller) -> Identity:
        self.callers.append(caller)
        if self.strangers:
            raise self.strangers.pop()
        return self.identity

    def record(self, event: Event) -> None:
        self.events.append(event)


GUARD = Guard()


@pytest.fixture(scope="module")
def behind_guard() -> Iterator[Serving]:
    with in_thread(GUARD) as serving:
        yield serving


@pytest.fixture
def guard() -> Guard:
    # So that no head of another test is remembered.
    GUARD.identity.withdrawn = True
    GUARD.reset()
    return GUARD


@pytest.fixture
def guarded(behind_guard: Serving, guard: Guard) -> Serving:
    behind_guard.engine.requests.clear()
    return behind_guard


@pytest.fixture(params=get_args(GrpcServer))
def guarded_grpc(guarded: Serving, request: pytest.FixtureRequest) -> Serving:
    return guarded.by(request.param)


# Paths that do not name the model: the body does, or a header.
TARGET_MODEL = "x-amzn-sagemaker-target-model"
NAMELESS = ("/predict", "/invocations")


def _asked(path: str, permitted: bool = True) -> list[tuple[str, str]]:
    """What one request asks for. If its path names no model, it must be permitted for any model, and then for this."""
    if path not in NAMELESS:
        return [("infer", "doubler")]
    return [("infer", ""), ("infer", "doubler"), ("infer", "doubler")] if permitted else [("infer", "")]


def hot_paths() -> list[str]:
    """Return the documented hot paths of all dialects."""
    paths = [path for dialect in DIALECTS for path in dialect.app_part().hot_paths]
    return [re.sub(r"{version}", "1", re.sub(r"{\w*model\w*}", "doubler", path)) for path in paths]


@pytest.mark.parametrize("path", hot_paths())
def test_every_documented_hot_path_has_the_door(guarded: Serving, guard: Guard, path: str) -> None:
    body = NAMED if path == "/predict" else PLAIN
    answer = guarded.http.post(path, content=body, headers={TARGET_MODEL: "doubler"})
    assert (answer.status_code, guard.actions) == (403, _asked(path, permitted=False))
    assert DENIED in answer.text
    assert guarded.engine.requests == []


@pytest.mark.parametrize(("path", "body"), HOT)
def test_hot_requests_are_denied_in_the_words_of_their_dialect(
    guarded: Serving, guard: Guard, path: str, body: bytes
) -> None:
    for error, status in ((Unauthenticated(DENIED), 401), (Forbidden(DENIED), 403)):
        guard.error = error
        answer = guarded.http.post(path, content=body)
        assert answer.status_code == status
        assert answer.json()["message" if path.startswith("/predictions") else "error"] == DENIED
        assert answer.headers.get("www-authenticate") == ('Bearer realm="modelport"' if status == 401 else None)
    assert [(event.action, event.model, event.identity, event.outcome) for event in guard.events] == [
        (*_asked(path, permitted=False)[0], "someone", "unauthenticated"),
        (*_asked(path, permitted=False)[0], "someone", "forbidden"),
    ]
    assert guarded.engine.requests == []
    guard.error = None
    guard.actions.clear()
    assert guarded.http.post(path, content=body).status_code == 200
    assert guard.actions == _asked(path)


@pytest.mark.parametrize(("path", "body"), HOT)
def test_heads_that_are_remembered_are_checked_again(guarded: Serving, guard: Guard, path: str, body: bytes) -> None:
    """Their sender is found once, and again when its credentials are withdrawn."""
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nX-Key: open sesame\r\nContent-Length: {len(body)}\r\n\r\n"
    guard.error = None
    with guarded.connect() as connection:
        answers = Answers(connection)
        for count, status in enumerate((200, 200, 403, 200), 1):
            guard.error = None if status == 200 else Forbidden(DENIED)
            if count == 4:
                guard.identity.withdrawn = True
                guard.identity = Asked(guard)
            guard.actions.clear()
            connection.sendall(head.encode() + body)
            assert answers.next()[0] == status
            assert guard.actions == _asked(path, permitted=status == 200)
            assert len(guard.callers) == (2 if count == 4 else 1)
            if status == 200:
                assert guarded.engine.identities[-1] is guard.identity
        peer = "{}:{}".format(*connection.getsockname())
    assert [caller.peer for caller in guard.callers] == [peer] * 2
    assert [event.peer for event in guard.events] == [peer]
    assert all(("x-key", "open sesame") in caller.headers for caller in guard.callers)
    assert len(guarded.engine.requests) == 3


class UsedUp:
    """The usage of an identity whose limit is reached. Bodies over 1000 bytes are refused for their size."""

    flow = 1

    def reserve(self, size: int, already_reserved: int, is_input: bool = True) -> None:
        if size > 1000:
            raise QuotaExceeded("your limit of bytes is reached", "bytes_per_second", 2.1)

    def unreserve(self, size: int) -> None:
        pass

    def admit(self, size: int) -> None:
        raise QuotaExceeded(USED_UP, "requests_per_second", 6.5)

    def end(self, size: int) -> None:
        raise AssertionError("it was not admitted")

    def charge(self, seconds: float) -> None:
        raise AssertionError("it did not run")


USED_UP = "your limit is reached; try again in 7 s"


def _is_recorded(guard: Guard, *whats: str) -> bool:
    recorded = [(event.action, event.identity, event.what, event.outcome) for event in guard.events]
    return recorded == [("infer", "someone", what, "quota") for what in whats]


@pytest.mark.parametrize(("path", "body"), HOT)
def test_a_client_that_has_used_up_its_quota_learns_when_to_try_again(
    guarded: Serving, guard: Guard, path: str, body: bytes
) -> None:
    guard.error, guard.identity.usage = None, UsedUp()
    answer = guarded.http.post(path, content=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["message" if path.startswith("/predictions") else "error"] == USED_UP
    assert _is_recorded(guard, path)
    assert guarded.engine.requests == []


def test_a_body_over_the_quota_need_not_be_sent(guarded: Serving, guard: Guard) -> None:
    guard.error, guard.identity.usage = None, UsedUp()
    with guarded.connect() as connection:
        connection.sendall(b"POST " + GOOD.path.encode() + b" HTTP/1.1\r\nContent-Length: 1001\r\n\r\n")
        status, headers, _ = Answers(connection).next()
    assert (status, headers["retry-after"]) == (429, "3")
    assert _is_recorded(guard, GOOD.path)


@pytest.mark.parametrize("name", ["ModelInfer", "Predict"])
def test_over_grpc_the_trailing_metadata_says_when_to_try_again(guarded_grpc: Serving, guard: Guard, name: str) -> None:
    guard.error, guard.identity.usage = None, UsedUp()
    (path,) = [path for path in grpc_methods() if path.endswith(f"/{name}")]
    with pytest.raises(grpc.RpcError) as caught:
        guarded_grpc.channel.unary_unary(path)(MESSAGES[name], timeout=WAIT_S)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, USED_UP)
    assert dict(caught.value.trailing_metadata())["retry-after"] == "7"
    assert _is_recorded(guard, path)


def test_each_request_of_a_stream_counts(guarded_grpc: Serving, guard: Guard) -> None:
    guard.error, guard.identity.usage = None, UsedUp()
    path = "/inference.GRPCInferenceService/ModelStreamInfer"
    call = guarded_grpc.channel.stream_stream(path)(iter([MESSAGES["ModelInfer"]] * 2), timeout=WAIT_S)
    answers = [pb.ModelStreamInferResponse.FromString(raw) for raw in call]
    assert [answer.error_message for answer in answers] == [USED_UP] * 2
    assert _is_recorded(guard, path, path)


def test_a_denied_client_need_not_send_the_body(guarded: Serving, guard: Guard) -> None:
    with guarded.connect() as connection:
        connection.sendall(b"POST " + GOOD.path.encode() + b" HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        assert Answers(connection).next()[0] == 403


@pytest.mark.parametrize(("path", "body"), HOT)
def test_wrong_credentials_are_freed_without_the_garbage_collector(
    guarded: Serving, guard: Guard, path: str, body: bytes
) -> None:
    guard.error, guard.strangers = None, [Unauthenticated(DENIED)]
    error = weakref.ref(guard.strangers[0])
    gc.disable()
    try:
        with guarded.connect() as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            assert Answers(connection).next()[0] == 401
        assert guarded.http.post(path, content=body).status_code == 200  # the server has done with the first
        assert error() is None
    finally:
        gc.enable()


# Everybody gets them, because they are the same for all and have no data: `public`.
PUBLIC_PATHS = [
    "/",
    "/console",
    "/console/files/some/such/thing",
    "/console/models/doubler",
    "/console/models/doubler/graph",
    "/console/models/doubler/versions/some/graph",
    "/console/netron/",
    "/console/netron/some/such/thing",
    "/docs",
    "/console/models/doubler/versions/some",
]
PUBLIC = [(method, path) for path in PUBLIC_PATHS for method in ("GET", "HEAD")]


def all_requests() -> set[tuple[str, str]]:
    """Return every method of every route of the app, including the documentation."""
    found: set[tuple[str, str]] = set()
    for route in build_admin(FakeEngine([], lambda request: []), LIMITS).routes:
        path = re.sub(r"{\w+:path}", "some/such/thing", route.path.replace("{model}", "doubler"))  # type: ignore[attr-defined]
        path = re.sub(r"{\w+}", "some", path)
        found |= {(method, path) for method in route.methods}  # type: ignore[attr-defined]
    return found


def cold_requests() -> list[tuple[str, str]]:
    """Return all requests that have the app's door, and some for unknown paths."""
    unknown = {("GET", "/nothing/here"), ("POST", "/v2/models/doubler/nothing"), ("DELETE", "/v2")}
    found = (all_requests() | unknown) - set(PUBLIC)
    # Hot paths have the other door, for any method.
    return sorted((method, path) for method, path in found if not path.startswith("/predictions/"))


@pytest.mark.parametrize(("method", "path"), PUBLIC)
def test_pages_ask_for_nothing(guarded: Serving, guard: Guard, method: str, path: str) -> None:
    assert (method, path) in all_requests()
    assert guarded.http.request(method, path).status_code in (200, 404)
    assert (guard.actions, guard.callers) == ([], [])


@pytest.mark.parametrize(("method", "path"), cold_requests())
def test_every_cold_path_has_the_door(guarded: Serving, guard: Guard, method: str, path: str) -> None:
    answer = guarded.http.request(method, path)
    assert answer.status_code == 403
    if method != "HEAD":
        assert DENIED in answer.text
    (action, model), *others = guard.actions
    assert others == []
    assert model == ("doubler" if "doubler" in path and "nothing" not in path else "")
    assert action in get_args(Action)


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("GET", "/v2/health/ready", ("health", "")),
        ("HEAD", "/ping", ("health", "")),
        ("GET", "/v2/models/doubler/ready", ("health", "doubler")),
        ("GET", "/metrics", ("metrics", "")),
        ("GET", "/v2/models/doubler", ("read", "doubler")),
        ("GET", "/v1/models/doubler/metadata", ("read", "doubler")),
        ("GET", "/models/doubler/1", ("read", "doubler")),
        ("GET", "/openapi.json", ("read", "")),
        ("POST", "/v2/repository/index", ("read", "")),
        ("POST", "/v2/repository/models/doubler/unload", ("admin", "doubler")),
        ("POST", "/v2/models/doubler/export", ("admin", "doubler")),
        ("DELETE", "/v2/models/doubler/export/1", ("admin", "doubler")),
        ("GET", "/v2/models/doubler/export/1/result", ("admin", "doubler")),
        ("GET", "/v2/models/doubler/export/1", ("read", "doubler")),
        ("GET", "/console/models/doubler/artifact", ("read", "doubler")),
        ("GET", "/console/models/doubler/versions/1/artifact/model.onnx", ("admin", "doubler")),
        ("GET", "/v2/systemsharedmemory/status", ("admin", "")),
        ("GET", "/v2/logging", ("read", "")),
        ("POST", "/v2/logging", ("admin", "")),
        ("GET", "/v2/trace/setting", ("read", "")),
        ("GET", "/v2/models/doubler/trace/setting", ("read", "doubler")),
        ("POST", "/v2/models/doubler/trace/setting", ("admin", "doubler")),
        ("POST", "/v2/systemsharedmemory/region/r/register", ("admin", "")),
    ],
)
def test_cold_paths_check_the_right_action(
    guarded: Serving, guard: Guard, method: str, path: str, asked: tuple[str, str]
) -> None:
    headers = {"X-Key": "open sesame"}
    assert guarded.http.request(method, path, headers=headers).status_code == 403
    assert guard.actions == [asked]
    assert ("x-key", "open sesame") in guard.callers[0].headers
    assert [event.outcome for event in guard.events] == ["forbidden"]


def test_a_cold_request_that_is_denied_may_have_a_body(guarded: Serving, guard: Guard) -> None:
    for _ in range(2):
        answer = guarded.http.post("/v2/repository/models/doubler/load", content=b" " * 100_000)
        assert (answer.status_code, answer.json()) == (403, {"error": DENIED})
    assert guarded.http.get("/models/doubler").json()["message"] == DENIED  # TorchServe's form
    guard.error = None
    assert guarded.http.get("/v2/models/doubler").status_code == 200


def _tfs(kind: Any, **more: Any) -> bytes:
    raw: bytes = kind(model_spec=tfs.ModelSpec(name="doubler"), **more).SerializeToString()
    return raw


def _predict() -> bytes:
    (value,) = as_message(GOOD, raw=False).inputs
    tensor = tf.TensorProto(dtype=1, float_val=value.contents.fp32_contents)
    for size in value.shape:
        tensor.tensor_shape.dim.add(size=size)
    return _tfs(tfs.PredictRequest, inputs={"x": tensor})


MESSAGES: dict[str, bytes] = {
    "ModelInfer": as_message(GOOD, raw=True).SerializeToString(),
    "Predict": _predict(),
    "Classify": _tfs(tfs.ClassificationRequest),
    "Regress": _tfs(tfs.RegressionRequest),
    "GetModelMetadata": _tfs(tfs.GetModelMetadataRequest),
    "GetModelStatus": _tfs(tfs.GetModelStatusRequest),
    "MultiInference": tfs.MultiInferenceRequest(
        tasks=[tfs.InferenceTask(model_spec=tfs.ModelSpec(name="doubler"))]
    ).SerializeToString(),
    **dict.fromkeys(
        ["ModelReady", "ModelMetadata", "ModelStatistics", "ModelConfig"],
        pb.ModelReadyRequest(name="doubler").SerializeToString(),
    ),
    "RepositoryModelLoad": pb.RepositoryModelLoadRequest(model_name="doubler").SerializeToString(),
    "RepositoryModelUnload": pb.RepositoryModelUnloadRequest(model_name="doubler").SerializeToString(),
}


def grpc_methods() -> list[str]:
    engine = FakeEngine([], lambda request: [])
    services = [service for dialect in DIALECTS for service in dialect.services(engine, LIMITS)]
    return [f"/{service.name}/{name}" for service in services for name in service.methods]


def _is_denied(caught: grpc.RpcError, code: grpc.StatusCode = grpc.StatusCode.PERMISSION_DENIED) -> bool:
    return bool((caught.code(), caught.details()) == (code, DENIED))


@pytest.mark.parametrize("path", grpc_methods())
def test_every_grpc_method_has_the_door(guarded_grpc: Serving, guard: Guard, path: str) -> None:
    message = MESSAGES.get(path.rpartition("/")[2], b"")
    for error, code in (
        (Forbidden(DENIED), grpc.StatusCode.PERMISSION_DENIED),
        (Unauthenticated(DENIED), grpc.StatusCode.UNAUTHENTICATED),
    ):
        guard.error = error
        guard.actions.clear()
        with pytest.raises(grpc.RpcError) as caught:
            guarded_grpc.channel.unary_unary(path)(message, timeout=WAIT_S, metadata=[("x-key", "open sesame")])
        assert _is_denied(caught.value, code)
        ((_, model),) = guard.actions
        caller, event = guard.callers[-1], guard.events[-1]
        assert model == ("doubler" if message else "")
        assert (event.what, event.model, event.peer, event.outcome) == (path, model, caller.peer, error.kind)
        assert caller.peer.startswith(("ipv4:127.0.0.1:", "127.0.0.1:"))
        assert ("x-key", "open sesame") in caller.headers
    assert guarded_grpc.engine.requests == []


@pytest.mark.parametrize(
    ("name", "action"),
    [("ModelInfer", "infer"), ("ServerReady", "health"), ("ModelConfig", "read"), ("RepositoryModelLoad", "admin")],
)
def test_grpc_methods_check_the_right_action(guarded_grpc: Serving, guard: Guard, name: str, action: str) -> None:
    with pytest.raises(grpc.RpcError):
        guarded_grpc.call(name, MESSAGES.get(name, b""))
    assert [asked for asked, _ in guard.actions] == [action]


def test_reading_settings_is_no_change(guarded_grpc: Serving, guard: Guard) -> None:
    change = pb.LogSettingsRequest(settings={"log_info": pb.LogSettingsRequest.SettingValue(bool_param=True)})
    of_model = pb.TraceSettingRequest(model_name="doubler")
    of_model_changed = pb.TraceSettingRequest(model_name="doubler")
    of_model_changed.settings["trace_rate"].value.append("5")
    for method, message in (
        ("LogSettings", b""), ("LogSettings", change.SerializeToString()), ("LogSettings", b"\xff"),
        ("TraceSetting", of_model.SerializeToString()), ("TraceSetting", of_model_changed.SerializeToString()),
    ):  # fmt: skip
        with pytest.raises(grpc.RpcError):
            guarded_grpc.call(method, message)
    assert guard.actions == [("read", ""), ("admin", ""), ("read", ""), ("read", "doubler"), ("admin", "doubler")]


def test_each_request_of_a_stream_is_checked(guarded_grpc: Serving, guard: Guard) -> None:
    path = "/inference.GRPCInferenceService/ModelStreamInfer"
    call = guarded_grpc.channel.stream_stream(path)(iter([MESSAGES["ModelInfer"]] * 3), timeout=WAIT_S)
    answers = [pb.ModelStreamInferResponse.FromString(raw) for raw in call]
    assert [answer.error_message for answer in answers] == [DENIED] * 3
    assert guard.actions == [("infer", "doubler")] * 3
    assert guarded_grpc.engine.requests == []


def _first(answer: Any, streams: bool) -> None:
    if streams:
        next(answer)


@pytest.mark.parametrize("service", ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"])
def test_health_and_reflection_have_the_door(guarded_grpc: Serving, guard: Guard, service: str) -> None:
    file = health_pb2.DESCRIPTOR if "health" in service else reflection_pb2.DESCRIPTOR
    for method in file.services_by_name[service.rpartition(".")[2]].methods:
        guard.actions.clear()
        sides = (method.client_streaming, method.server_streaming)
        call = getattr(guarded_grpc.channel, "_".join("stream" if streams else "unary" for streams in sides))
        asked: Any = iter([b""]) if method.client_streaming else b""
        with pytest.raises(grpc.RpcError) as caught:
            _first(call(f"/{service}/{method.name}")(asked, timeout=WAIT_S), method.server_streaming)
        if caught.value.code() is not grpc.StatusCode.UNIMPLEMENTED:
            assert _is_denied(caught.value)
            assert guard.actions == [("health" if "health" in service else "read", "")]


def test_reflection_ends_with_the_permission(guarded_grpc: Serving, guard: Guard) -> None:
    guard.error = None
    requests: SimpleQueue[bytes | None] = SimpleQueue()
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    answers = guarded_grpc.channel.stream_stream(path)(iter(requests.get, None), timeout=WAIT_S)
    for error in (None, Forbidden(DENIED)):
        guard.error = error
        requests.put(reflection_pb2.ServerReflectionRequest(list_services="*").SerializeToString())
        if error is None:
            next(answers)
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    requests.put(None)
    assert _is_denied(caught.value)


def test_a_permitted_client_is_served_over_grpc(guarded_grpc: Serving, guard: Guard) -> None:
    guard.error = None
    for path in ("/inference.GRPCInferenceService/ModelInfer", "/tensorflow.serving.PredictionService/Predict"):
        guarded_grpc.channel.unary_unary(path)(MESSAGES[path.rpartition("/")[2]], timeout=WAIT_S)
    assert guard.actions == [("infer", "doubler")] * 2
    assert guarded_grpc.engine.identities[-2:] == [guard.identity] * 2


def test_what_changes_the_server_is_recorded(guarded_grpc: Serving, guard: Guard) -> None:
    guard.error = None
    guarded_grpc.call("RepositoryModelLoad", MESSAGES["RepositoryModelLoad"])
    with pytest.raises(grpc.RpcError):
        guarded_grpc.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="other").SerializeToString())
    for model in ("doubler", "other"):
        guarded_grpc.http.post(f"/v2/repository/models/{model}/load")
    guarded_grpc.http.get("/v2/models/doubler")
    assert [(event.action, event.model, event.identity, event.outcome) for event in guard.events] == [
        ("admin", "doubler", "someone", "ok"),
        ("admin", "other", "someone", "not_found"),
    ] * 2
    assert [event.what for event in guard.events[::2]] == [
        "/inference.GRPCInferenceService/RepositoryModelLoad",
        "POST /v2/repository/models/doubler/load",
    ]
    assert all("127.0.0.1:" in event.peer for event in guard.events)
