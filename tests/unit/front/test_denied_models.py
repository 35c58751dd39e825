"""What a client learns about models that it may not use: nothing, not even whether they exist."""

import json
from collections.abc import Iterator
from typing import get_args

import grpc
import pytest

from gateway.access.access import PolicyAccess
from gateway.access.keys import digest_of
from gateway.access.policy import Policy, Rights
from gateway.access.roles import read_roles
from gateway.generated import tensorflow_serving_pb2 as tfs
from gateway.process.address import GrpcServer
from tests.support.front_server import WAIT_S, Serving, in_thread
from tests.unit.front.test_access import MESSAGES, NAMED, TARGET_MODEL, cold_requests, grpc_methods, hot_paths

# Models that are served and that are not, with names of the same length.
SERVED, MISSING = "doubler", "missing"
KEY = "mp_" + "k" * 43
POLICY = Policy(
    Rights(read_roles(["health"])),
    {"limited": Rights(read_roles(["infer:other", "read:other", "admin:other", "metrics:other"]))},
    {digest_of(KEY): "limited"},
)
SENDERS = {"anonymous": {}, "limited": {"x-api-key": KEY}}
BODIES = {
    "valid": NAMED,
    "no such input": b'{"model": "doubler", "inputs": {"nothing": [1]}}',
    "no such signature": b'{"model": "doubler", "signature": "nothing", "inputs": [[1]]}',
    "no such version": b'{"model": "doubler", "version": "77", "inputs": [[1]]}',
    "a large body": json.dumps({"model": "doubler", "inputs": [[1.0] * 30_000]}).encode(),
    "no JSON": b"{",
    "empty": b"",
}
# Merged into a PredictRequest, it names the signature that is looked up among those of the model.
SIGNATURE = tfs.PredictRequest(model_spec=tfs.ModelSpec(signature_name="serving_default")).SerializeToString()


@pytest.fixture(scope="module")
def guarded() -> Iterator[Serving]:
    with in_thread(PolicyAccess(POLICY)) as serving:
        yield serving


@pytest.fixture(params=list(SENDERS))
def headers(request: pytest.FixtureRequest) -> dict[str, str]:
    return SENDERS[request.param]


@pytest.mark.parametrize("path", hot_paths())
def test_inference_over_rest(guarded: Serving, headers: dict[str, str], path: str) -> None:
    for name, body in BODIES.items():
        answers = []
        for model in (SERVED, MISSING):
            named = {**headers, TARGET_MODEL: model}
            answer = guarded.http.post(path.replace(SERVED, model), content=_about(body, model), headers=named)
            answers.append((answer.status_code, answer.text.replace(model, "MODEL")))
        assert answers[0] == answers[1], name
        names_no_model = path == "/predict" and name in ("no JSON", "empty")
        if not headers or not names_no_model:
            assert answers[0][0] == (403 if headers else 401), name


@pytest.mark.parametrize(("method", "path"), [each for each in cold_requests() if SERVED in each[1]])
def test_everything_else_over_rest(guarded: Serving, headers: dict[str, str], method: str, path: str) -> None:
    answers = []
    for model in (SERVED, MISSING):
        for body in (b"", b"{}", b"{"):
            answer = guarded.http.request(method, path.replace(SERVED, model), content=body, headers=headers)
            answers.append((answer.status_code, answer.text.replace(model, "MODEL")))
    assert len(set(answers)) == 1
    # Whoever may read something may also read which paths exist.
    assert answers[0][0] == (401 if not headers else 404 if path.endswith("/nothing") else 403)


@pytest.mark.parametrize("server", get_args(GrpcServer))
@pytest.mark.parametrize("path", [path for path in grpc_methods() if path.rpartition("/")[2] in MESSAGES])
def test_grpc(guarded: Serving, headers: dict[str, str], server: GrpcServer, path: str) -> None:
    message = MESSAGES[path.rpartition("/")[2]]
    call = guarded.by(server).channel.unary_unary(path)
    denied = grpc.StatusCode.PERMISSION_DENIED if headers else grpc.StatusCode.UNAUTHENTICATED
    for body in (message, message[:-1], *([message + SIGNATURE] if path.endswith("/Predict") else [])):
        answers = []
        for model in (SERVED, MISSING):
            with pytest.raises(grpc.RpcError) as caught:
                call(_about(body, model), timeout=WAIT_S, metadata=list(headers.items()))
            answers.append((caught.value.code(), caught.value.details().replace(model, "MODEL")))
        assert answers[0] == answers[1]
        # What cannot be read names no model. Everyone may ask for the health of the server.
        if body != message[:-1] or not (headers or path.endswith("/ModelReady")):
            assert answers[0][0] is denied


def test_a_client_may_do_what_its_roles_say(guarded: Serving) -> None:
    """The server's health is open; lists and metrics are those of its models."""
    assert guarded.http.get("/v2/health/ready").status_code == 200
    headers = SENDERS["limited"]
    for path in ("/v2/models", "/v1/models", "/models"):
        assert SERVED not in guarded.http.get(path, headers=headers).text
    assert guarded.http.post("/v2/repository/index", headers=headers).json() == []
    assert guarded.http.get("/v2/models/stats", headers=headers).json() == {"model_stats": []}
    assert guarded.http.get("/v2/models/other", headers=headers).status_code == 404
    assert guarded.http.post("/predict/other", content=NAMED, headers=headers).status_code in (400, 404)
    for path in ("/openapi.json", "/metrics", "/v2"):
        assert guarded.http.get(path).status_code == 401
        assert guarded.http.get(path, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("X-API-Key", KEY), ("X-API-Key", KEY)],
        [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")],
        [("X-API-Key", KEY), ("Authorization", f"Bearer {KEY}x")],
        [("X-API-Key", "")],
        [("Authorization", "Basic dXNlcjpwYXNz")],
    ],
)
@pytest.mark.parametrize("path", ["/v2/models/other", "/predict/other", "/predict"])
def test_ambiguous_credentials_are_refused(guarded: Serving, headers: list[tuple[str, str]], path: str) -> None:
    answer = guarded.http.request("GET" if "v2" in path else "POST", path, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="modelport"')
    for server in get_args(GrpcServer):
        metadata = [(name.lower(), value) for name, value in headers]
        with pytest.raises(grpc.RpcError) as caught:
            guarded.by(server).call("ModelInfer", MESSAGES["ModelInfer"], metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def _about(body: bytes, model: str) -> bytes:
    return body.replace(SERVED.encode(), model.encode())
