"""The audit log, at every door: each refusal and each change of the server is one event, with who it was."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, get_args

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from gateway.access.access import PolicyAccess
from gateway.access.keys import digest_of
from gateway.access.policy import Policy, Rights
from gateway.access.roles import read_roles
from gateway.domain.caller import Event
from gateway.domain.control import LoadModel
from gateway.domain.quota import Quota, Usage
from gateway.domain.types import ModelStatus
from gateway.engine.fake import FakeEngine
from gateway.errors import Overloaded, QuotaExceeded, kind_of
from gateway.front.admin.app import build_admin
from gateway.front.base.access import action_of
from gateway.process.address import GrpcServer
from tests.support.front_server import LIMITS, WAIT_S, Serving, in_thread
from tests.unit.front.test_access import MESSAGES, NAMED, PLAIN, TARGET_MODEL, cold_requests, grpc_methods, hot_paths

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
WATCH = "/grpc.health.v1.Health/Watch"
# The name of an identity → the outcome of what it asks for. `stranger` has a key that nobody knows.
DENIED = {"anonymous": "unauthenticated", "limited": "forbidden", "stranger": "unauthenticated"}
OVER_LIMITS = {"spender": "quota", "crowd": "overloaded"}
EVERYTHING = read_roles(["infer", "read", "admin", "metrics", "health"])


def key_of(name: str) -> str:
    return f"mp_{name.ljust(40, '-')}"


def credentials(name: str) -> dict[str, str]:
    return {} if name == "anonymous" else {"x-api-key": key_of(name)}


POLICY = Policy(
    Rights(read_roles(["health"])),
    {
        "limited": Rights(read_roles(["infer:other", "admin:other"])),
        **{name: Rights(EVERYTHING) for name in (*OVER_LIMITS, "boss")},
    },
    {digest_of(key_of(name)): name for name in ("limited", "boss", *OVER_LIMITS)},
)


class Refusing:
    """The usage of an identity that may have nothing in flight."""

    flow = 1

    def __init__(self, name: str) -> None:
        self.name = name

    def admit(self, size: int) -> None:
        if self.name == "crowd":
            raise Overloaded("your share is used up")
        raise QuotaExceeded("your limit is reached", "in_flight")

    hold = admit

    def reserve(self, size: int, already_reserved: int, is_input: bool = True) -> None:
        """Bodies may be received."""

    def unreserve(self, size: int) -> None:
        """See `reserve`."""


class Log:
    """What was recorded."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.access = PolicyAccess(POLICY, self.events.append, self._usage_of)

    def _usage_of(self, name: str, quota: Quota) -> Usage | None:
        return Refusing(name) if name in OVER_LIMITS else None  # type: ignore[return-value]

    def take(self) -> list[tuple[str, str, str, str, str]]:
        events, self.events[:] = list(self.events), []
        assert all("127.0.0.1:" in event.peer or event.what in (STREAM, REFLECTION) for event in events)
        return [(each.identity, each.action, each.model, each.what, each.outcome) for each in events]


LOG = Log()
ASLEEP = ModelStatus("asleep", "1", "UNLOADED", admits=True)


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with in_thread(LOG.access) as serving:
        engine = serving.engine
        engine._models.append(ASLEEP)

        def when_loaded(*arguments: Any, identity: Any = None, **options: Any) -> None:
            identity.usage.hold(0)

        engine.when_loaded = when_loaded  # type: ignore[assignment]
        yield serving


@pytest.fixture(autouse=True)
def log(serving: Serving) -> Log:
    LOG.events.clear()
    return LOG


def name_of(identity: str) -> str:
    return "" if identity == "stranger" else identity


@pytest.mark.parametrize("identity", [*DENIED, *OVER_LIMITS])
@pytest.mark.parametrize("path", hot_paths())
def test_inference_over_rest(serving: Serving, log: Log, path: str, identity: str) -> None:
    body = NAMED if path == "/predict" else PLAIN
    headers = {TARGET_MODEL: "doubler", **credentials(identity)}
    answer = serving.http.post(path, content=body, headers=headers)
    outcome = {**DENIED, **OVER_LIMITS}[identity]
    if identity in OVER_LIMITS and answer.status_code in (400, 404):  # the body is none of this dialect's
        assert log.take() == []
        return
    ((who, action, model, what, found),) = log.take()
    assert (who, action, what, found) == (name_of(identity), "infer", path, outcome)
    assert model == "doubler" or "{" not in model


def admin_requests() -> list[tuple[str, str, str]]:
    """Return the action, method and path of all requests for the admin app."""
    routes = build_admin(FakeEngine([], lambda request: []), LIMITS).routes
    found = []
    for method, path in cold_requests():
        matching: list[Any] = [each for each in routes if each.path_regex.match(path)]  # type: ignore[attr-defined]
        matching.sort(key=lambda route: method not in route.methods)
        endpoint = matching[0].endpoint if matching else None
        found.append((action_of(endpoint, method), method, path))
    return found


@pytest.mark.parametrize("identity", DENIED)
@pytest.mark.parametrize(("action", "method", "path"), admin_requests())
def test_everything_else_over_rest(
    serving: Serving, log: Log, action: str, method: str, path: str, identity: str
) -> None:
    answer = serving.http.request(method, path, headers=credentials(identity))
    events = log.take()
    if answer.status_code not in (401, 403):
        # The server's health is open, and lists have what the client may read about.
        assert (action == "health") or identity == "limited"
        assert [event[4] for event in events] == [kind_of(answer.status_code)] * (action == "admin")
        return
    ((who, _, _, what, outcome),) = events
    assert (who, what, outcome) == (name_of(identity), f"{method} {path}", DENIED[identity])


@pytest.mark.parametrize(("action", "method", "path"), admin_requests())
def test_each_change_over_rest_is_recorded_with_its_outcome(
    serving: Serving, log: Log, action: str, method: str, path: str
) -> None:
    answer = serving.http.request(method, path, headers=credentials("boss"))
    events = log.take()
    if action != "admin":
        assert events == []
        return
    ((who, found, _, what, outcome),) = events
    assert (who, found, what) == ("boss", "admin", f"{method} {path}")
    assert outcome == kind_of(answer.status_code)


def test_a_page_of_another_origin_is_recorded_whatever_it_asks_for(serving: Serving, log: Log) -> None:
    headers = {**credentials("boss"), "sec-fetch-site": "cross-site"}
    for path, action in (("/v2/repository/index", "read"), ("/v2/repository/models/doubler/load", "admin")):
        assert serving.http.post(path, headers=headers).status_code == 403
        ((who, found, _, what, outcome),) = log.take()
        assert (who, found, what, outcome) == ("boss", action, f"POST {path}", "forbidden")


@pytest.mark.parametrize(("identity", "outcome"), OVER_LIMITS.items())
def test_reading_about_a_model_that_must_be_loaded_counts_as_a_request_in_flight(
    serving: Serving, log: Log, identity: str, outcome: str
) -> None:
    paths = ("/v2/models/asleep", "/v2/models/asleep/config", "/v1/models/asleep/metadata")
    for path in paths:
        assert serving.http.get(path, headers=credentials(identity)).status_code == 429
        assert log.take() == [(identity, "read", "asleep", f"GET {path}", outcome)]
    assert serving.http.post("/predict/asleep", content=PLAIN, headers=credentials(identity)).status_code == 429
    assert log.take() == [(identity, "infer", "asleep", "/predict/asleep", outcome)]


@pytest.mark.parametrize(("identity", "outcome"), OVER_LIMITS.items())
@pytest.mark.parametrize("server", get_args(GrpcServer))
def test_a_model_that_must_be_loaded_over_grpc(
    serving: Serving, log: Log, server: GrpcServer, identity: str, outcome: str
) -> None:
    serving = serving.by(server)
    for method, action in (("ModelMetadata", "read"), ("ModelConfig", "read"), ("ModelInfer", "infer")):
        message = MESSAGES[method].replace(b"doubler", b"asleep\n").replace(b"\x07asleep\n", b"\x06asleep", 1)
        with pytest.raises(grpc.RpcError) as caught:
            serving.call(method, message, metadata=metadata(identity))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        path = f"/inference.GRPCInferenceService/{method}"
        assert log.take() == [(identity, action, "asleep", path, outcome)]


def metadata(identity: str) -> list[tuple[str, str]]:
    return list(credentials(identity).items())


@pytest.mark.parametrize("identity", [*DENIED, *OVER_LIMITS])
@pytest.mark.parametrize("server", get_args(GrpcServer))
def test_grpc(serving: Serving, log: Log, server: GrpcServer, identity: str) -> None:
    """Every method with one answer. Those over their limits may do all but infer."""
    channel = serving.by(server).channel
    for path in grpc_methods():
        method = path.rpartition("/")[2]
        try:
            channel.unary_unary(path)(MESSAGES.get(method, b""), timeout=WAIT_S, metadata=metadata(identity))
            code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = error.code()
        events = log.take()
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            ((who, _, model, what, outcome),) = events
            assert (who, what, outcome) == (name_of(identity), path, DENIED[identity])
            assert model == ("doubler" if method in MESSAGES else "")
        elif code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            assert events == [(identity, "infer", "doubler", path, OVER_LIMITS[identity])]
        else:
            assert all(event[:2] == (identity, "admin") for event in events)
            assert method not in ("ModelInfer", "Predict")


@pytest.mark.parametrize("identity", [*DENIED, *OVER_LIMITS])
@pytest.mark.parametrize("server", get_args(GrpcServer))
def test_each_request_of_a_stream(serving: Serving, log: Log, server: GrpcServer, identity: str) -> None:
    call = serving.by(server).channel.stream_stream(STREAM)
    answers = list(call(iter([MESSAGES["ModelInfer"]] * 2), timeout=WAIT_S, metadata=metadata(identity)))
    assert len(answers) == 2
    outcome = {**DENIED, **OVER_LIMITS}[identity]
    assert log.take() == [(name_of(identity), "infer", "doubler", STREAM, outcome)] * 2


@pytest.mark.parametrize("identity", DENIED)
@pytest.mark.parametrize("server", get_args(GrpcServer))
def test_streams_of_the_server(serving: Serving, log: Log, server: GrpcServer, identity: str) -> None:
    """Reflection, and watching the health of the server, which is open to everybody whose key is known."""
    channel, options = serving.by(server).channel, {"timeout": WAIT_S, "metadata": metadata(identity)}
    asked = reflection_pb2.ServerReflectionRequest(list_services="*").SerializeToString()
    calls: dict[str, Callable[[], Any]] = {
        REFLECTION: lambda: channel.stream_stream(REFLECTION)(iter([asked]), **options),
        **({WATCH: lambda: channel.unary_stream(WATCH)(b"", **options)} if identity == "stranger" else {}),
    }
    for path, call in calls.items():
        with pytest.raises(grpc.RpcError):
            list(call())
        ((who, _, _, what, outcome),) = log.take()
        assert (who, what, outcome) == (name_of(identity), path, DENIED[identity])


@pytest.mark.parametrize("server", get_args(GrpcServer))
def test_changes_over_grpc(serving: Serving, log: Log, server: GrpcServer) -> None:
    """With their outcomes, also that of a message that cannot be read."""
    serving = serving.by(server)
    path = "/inference.GRPCInferenceService/RepositoryModelLoad"
    messages = {
        "ok": MESSAGES["RepositoryModelLoad"],
        "not_found": MESSAGES["RepositoryModelLoad"].replace(b"doubler", b"nothing"),
        "invalid": b"\xff",
    }
    for outcome, message in messages.items():
        code = serving.channel.unary_unary(path).future(message, timeout=WAIT_S, metadata=metadata("boss")).code()
        assert (code is grpc.StatusCode.OK) == (outcome == "ok")
        model = {"ok": "doubler", "not_found": "nothing", "invalid": ""}[outcome]
        assert log.take() == [("boss", "admin", model, path, outcome)]


@pytest.mark.parametrize("server", get_args(GrpcServer))
def test_a_change_that_its_client_no_longer_waits_for(serving: Serving, log: Log, server: GrpcServer) -> None:
    began, recorded = asyncio.Event(), asyncio.Event()

    async def load(request: LoadModel) -> None:
        began.set()
        await asyncio.Event().wait()

    def record(event: Event) -> None:
        log.events.append(event)
        recorded.set()

    def wait(event: asyncio.Event) -> None:
        asyncio.run_coroutine_threadsafe(event.wait(), serving.loop).result(WAIT_S)

    previous, recorder = serving.engine.handlers, log.access.record
    handlers = serving.engine._control_handlers()
    handlers.add(LoadModel, load)
    serving.engine.handlers, log.access.record = handlers, record
    try:
        path = "/inference.GRPCInferenceService/RepositoryModelLoad"
        call = serving.by(server).channel.unary_unary(path)
        call = call.future(MESSAGES["RepositoryModelLoad"], metadata=metadata("boss"))
        wait(began)
        call.cancel()
        wait(recorded)
    finally:
        serving.engine.handlers, log.access.record = previous, recorder
    assert log.take() == [("boss", "admin", "doubler", path, "cancelled")]


@pytest.mark.parametrize("server", get_args(GrpcServer))
def test_a_change_that_fails_by_an_error_of_the_server(serving: Serving, log: Log, server: GrpcServer) -> None:
    async def load(request: LoadModel) -> None:
        raise RuntimeError("a bug")

    previous, handlers = serving.engine.handlers, serving.engine._control_handlers()
    handlers.add(LoadModel, load)
    serving.engine.handlers = handlers
    path, method = "/v2/repository/models/doubler/load", "/inference.GRPCInferenceService/RepositoryModelLoad"
    try:
        assert serving.http.post(path, headers=credentials("boss")).status_code == 500
        assert log.take() == [("boss", "admin", "doubler", f"POST {path}", "internal")]
        call = serving.by(server).channel.unary_unary(method)
        call.future(MESSAGES["RepositoryModelLoad"], timeout=WAIT_S, metadata=metadata("boss")).exception()
    finally:
        serving.engine.handlers = previous
    assert log.take() == [("boss", "admin", "doubler", method, "internal")]


def test_a_change_whose_body_does_not_arrive(serving: Serving, log: Log) -> None:
    recorded = asyncio.Event()
    recorder = log.access.record

    def record(event: Event) -> None:
        recorder(event)
        recorded.set()

    log.access.record = record
    try:
        with serving.connect() as connection:
            path = "/v2/repository/models/doubler/load"
            head = f"POST {path} HTTP/1.1\r\nX-API-Key: {key_of('boss')}\r\nContent-Length: 10\r\n\r\n"
            connection.sendall(head.encode() + b"{")
        asyncio.run_coroutine_threadsafe(recorded.wait(), serving.loop).result(WAIT_S)
    finally:
        log.access.record = recorder
    assert log.take() == [("boss", "admin", "doubler", f"POST {path}", "cancelled")]
