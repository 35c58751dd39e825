"""Pages of other origins: who may read answers, on every path, whatever the answer is; and what they may not do."""

from collections.abc import Iterator

import pytest

from gateway.access.access import PolicyAccess
from gateway.access.keys import digest_of
from gateway.access.policy import Policy, Rights
from gateway.access.roles import read_roles
from gateway.front.base.cors import Cors
from tests.support.front_server import LIMITS, Serving, in_thread
from tests.unit.front.http.test_http import Answers
from tests.unit.front.test_access import HOT, PLAIN, all_requests

PAGE, OTHER = "https://page.example", "http://localhost:3000"
STRANGER = "https://stranger.example"
ALLOWED = "access-control-allow-origin"
KEY = "mp_" + "k" * 43
EVERYTHING = Rights(read_roles(["infer", "read", "admin", "metrics", "health"]))
POLICY = Policy(EVERYTHING, {"someone": EVERYTHING}, {digest_of(KEY): "someone"})
# As a browser sends them for a page.
SENT = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
ADMIN = [
    ("POST", "/v2/repository/models/doubler/unload"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/console/models/doubler/versions/1/artifact/model.onnx"),
]


@pytest.fixture(scope="module")
def listed() -> Iterator[Serving]:
    """A server whose cors_origin lists two origins."""
    with in_thread(cors=Cors([PAGE, OTHER])) as serving:
        yield serving


@pytest.fixture(scope="module")
def open_to_all() -> Iterator[Serving]:
    with in_thread(cors=Cors(["*"])) as serving:
        yield serving


def requests() -> list[tuple[str, str, bytes]]:
    """A valid request for each dialect, several that fail in different places, and some of the admin app."""
    bad = [
        ("POST", "/predict/doubler", b"{"),
        ("POST", "/predict/missing", PLAIN),
        ("PATCH", "/predict/doubler", PLAIN),
        ("POST", "/v2/models/doubler/infer", b" " * (LIMITS.json_bytes + 1)),
        ("GET", "/nothing", b""),
    ]
    cold = [("GET", path, b"") for path in ("/v2/health/ready", "/v2/models/doubler", "/openapi.json", "/metrics", "/")]
    return [*(("POST", path, body) for path, body in HOT), *bad, *cold, ("POST", "/v2/repository/index", b"")]


@pytest.mark.parametrize(("method", "path", "body"), requests())
def test_every_answer_says_which_page_may_read_it(
    serving: Serving, listed: Serving, open_to_all: Serving, method: str, path: str, body: bytes
) -> None:
    for origin in (PAGE, OTHER, STRANGER, None):
        headers = SENT | {"Origin": origin} if origin else {}
        for _ in range(2):  # the second head is known
            answer = listed.http.request(method, path, content=body, headers=headers)
            assert answer.headers.get(ALLOWED) == (None if origin == STRANGER else origin)
            assert "origin" in answer.headers["vary"]
            exposed = answer.headers.get("access-control-expose-headers", "")
            assert ("Inference-Header-Content-Length" in exposed) == (origin in (PAGE, OTHER))
            answer = open_to_all.http.request(method, path, content=body, headers=headers)
            assert answer.headers.get_list(ALLOWED) == ["*"]
            assert "access-control-allow-credentials" not in answer.headers
            answer = serving.http.request(method, path, content=body, headers=headers)
            assert not [name for name in answer.headers if name.startswith("access-control")]
            assert "origin" not in answer.headers.get("vary", "")


def test_several_origins_share_a_connection(listed: Serving) -> None:
    """A proxy may send the requests of different pages on one connection."""
    with listed.connect() as connection:
        answers = Answers(connection)
        for origin in (PAGE, STRANGER, OTHER, PAGE):
            head = (
                f"POST /predict/doubler HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\nContent-Length: {len(PLAIN)}\r\n\r\n"
            )
            connection.sendall(head.encode() + PLAIN)
            status, headers, _ = answers.next()
            assert (status, headers.get(ALLOWED)) == (200, None if origin == STRANGER else origin)


@pytest.mark.parametrize("begin", ["GARBAGE\r\n\r\n", f"POST /predict HTTP/1.1\r\nOrigin: {PAGE}\r\n: x\r\n\r\n"])
def test_what_is_not_http_is_answered_all_the_same(listed: Serving, begin: str) -> None:
    with listed.connect() as connection:
        connection.sendall(begin.encode())
        assert Answers(connection).next()[0] == 400


def test_two_origins_in_a_request_are_none(listed: Serving) -> None:
    answer = listed.http.get("/v2/health/live", headers=[("Origin", PAGE), ("Origin", PAGE)])
    assert ALLOWED not in answer.headers


@pytest.mark.parametrize("path", sorted({path for _, path in all_requests()} | {path for path, _ in HOT}))
def test_every_path_answers_preflight_requests(
    serving: Serving, listed: Serving, open_to_all: Serving, path: str
) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    for server, origin, allowed in ((listed, PAGE, PAGE), (open_to_all, STRANGER, "*")):
        answer = server.http.options(path, headers={"Origin": origin, **asks})
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers.get_list(ALLOWED) == [allowed]
        assert {"GET", "POST", "PUT", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
        names = answer.headers["access-control-allow-headers"].lower().split(", ")
        assert {"authorization", "x-api-key", "content-type", "inference-header-content-length"} <= set(names)
        assert {"traceparent", "x-request-id"} <= set(names)
    refused = listed.http.options(path, headers={"Origin": STRANGER, **asks})
    assert (refused.status_code, ALLOWED in refused.headers) == (403, False)
    off = serving.http.options(path, headers={"Origin": PAGE, **asks})
    assert off.status_code in (404, 405)
    assert not [name for name in off.headers if name.startswith("access-control")]


def test_a_page_may_read_and_infer_but_not_change_anything(listed: Serving, open_to_all: Serving) -> None:
    for server in (listed, open_to_all):
        for method, path in ADMIN:
            answer = server.http.request(method, path, headers={**SENT, "Origin": PAGE})
            assert (answer.status_code, answer.headers[ALLOWED] in (PAGE, "*")) == (403, True), path
            assert "only with an API key or a token" in answer.json()["error"]
    for method, path in ADMIN:
        if method == "POST":
            stranger = listed.http.post(path, headers={**SENT, "Origin": STRANGER})
            assert "of another origin may not change" in stranger.json()["error"]


@pytest.mark.parametrize("cors", [Cors([PAGE]), Cors(["*"])])
def test_a_page_with_a_key_may_do_what_its_roles_say(cors: Cors) -> None:
    headers = {**SENT, "Origin": PAGE, "Host": "models.example"}
    with in_thread(PolicyAccess(POLICY), cors=cors) as serving:
        for method, path in ADMIN:
            assert serving.http.request(method, path, headers=headers).status_code == 403
            answer = serving.http.request(method, path, headers={**headers, "X-API-Key": KEY})
            assert answer.status_code in (200, 404, 501), path  # 501: shared memory is off
        wrong = serving.http.post(HOT[0][0], content=HOT[0][1], headers={**headers, "X-API-Key": KEY + "x"})
        assert (wrong.status_code, wrong.headers[ALLOWED] in (PAGE, "*")) == (401, True)


def test_the_own_console_is_not_a_page_of_another_origin(open_to_all: Serving) -> None:
    for headers in (
        {"Origin": "http://127.0.0.1:8000", "Host": "127.0.0.1:8000"},
        {"Origin": "https://allowed.example", "Host": "127.0.0.1:8000"},  # behind a proxy
        {"Origin": "http://127.0.0.1:8000", "Host": "127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"},
    ):
        answer = open_to_all.http.post("/v2/repository/models/doubler/load", headers=headers)
        assert answer.status_code == 200
