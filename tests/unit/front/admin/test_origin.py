"""A page of another origin in a user's browser cannot change the gateway."""

import json
import socket
from contextlib import nullcontext

import pytest

from gateway.errors import Forbidden
from gateway.front.admin.origin import check_origin
from tests.support.bad_inputs import Subject, good_call
from tests.support.front_server import ALLOWED_HOST, Serving
from tests.support.v2_calls import as_json

HOST = "127.0.0.1:8000"
# Requests that browsers send without a preflight for a page of another site.
PAGES = [
    {"Origin": "http://page.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    {"Origin": "http://page.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:8001"},
]
WRITES = [
    "/v2/repository/models/doubler/unload",
    "/v2/repository/models/doubler/load",
    "/v2/repository/index",
    "/v2/models/doubler/export",
    "/v2/models/doubler/versions/1/export",
    "/v2/systemsharedmemory/region/r/register",
    "/v2/systemsharedmemory/region/r/unregister",
    "/v2/systemsharedmemory/unregister",
    "/models",
    "/models/doubler",
]


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_another_origin_changes_nothing(serving: Serving, path: str, page: dict[str, str]) -> None:
    reply = serving.http.post(path, content=b"{}", headers={"Content-Type": "text/plain", "Host": HOST, **page})
    assert reply.status_code == 403
    document = reply.json()
    assert "another origin" in document["message" if path.startswith("/models") else "error"]


def test_every_path_that_changes_something_checks_the_origin(serving: Serving) -> None:
    """All documented paths except the hot ones, so that a new path cannot be forgotten."""
    paths = serving.http.get("/openapi.json").json()["paths"]
    asked = 0
    for path, operations in paths.items():
        for method in operations.keys() - {"get"}:
            if "inference" in operations[method]["tags"]:
                continue
            reply = serving.http.request(method, path, content=b"{}", headers={"Host": HOST, **PAGES[0]})
            assert (reply.status_code, path) == (403, path)
            asked += 1
    assert asked >= 6


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "models.knative.example"},
        {"Host": HOST, "Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"},
        {"Host": HOST, "Sec-Fetch-Site": "none"},
        {"Host": "[::1]:8000", "Origin": "http://[::1]:8000"},
        {"Host": "LOCALHOST:8000", "Origin": "http://localhost:8000"},
        {"Host": f"{socket.gethostname()}:8000", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_others_may(serving: Serving, headers: dict[str, str]) -> None:
    assert serving.http.post("/v2/repository/models/doubler/load", headers=headers).status_code == 200
    call = good_call(Subject())
    assert serving.http.post(call.path, content=as_json(call), headers=headers).status_code == 200


@pytest.mark.parametrize("site", ["same-origin", "none", ""])
@pytest.mark.parametrize("host", ["page.example:8000", "page.example", "127.0.0.1.page.example", "", "[::1", "x@"])
def test_a_rebound_host_name_is_not_ours(site: str, host: str) -> None:
    headers = {"sec-fetch-site": site, "origin": f"http://{host}", "host": host}
    with pytest.raises(Forbidden):
        check_origin("POST", headers)
    check_origin("GET", headers)


@pytest.mark.parametrize(
    ("headers", "may"),
    [
        # A proxy that forwards Host, with and without its own port, and one that replaces it.
        ({"sec-fetch-site": "same-origin", "origin": "https://Models.example", "host": "models.example"}, True),
        ({"origin": "https://models.example:8443", "host": "models.example"}, True),
        ({"origin": "https://models.example", "host": "127.0.0.1:8000"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "https://models.example", "host": "127.0.0.1:8000"}, False),
        ({"sec-fetch-site": "same-site", "origin": "https://www.example", "host": "models.example"}, False),
        ({"origin": "https://page.example", "host": "models.example"}, False),
        ({"origin": "https://models.example.page.example", "host": "models.example"}, False),
        ({"origin": "https://page.example", "host": "page.example"}, False),
        ({"origin": "https://[", "host": "models.example"}, False),
        ({"origin": "null", "host": "models.example"}, False),
    ],
)
def test_a_host_that_is_allowed_is_ours(headers: dict[str, str], may: bool) -> None:
    with nullcontext() if may else pytest.raises(Forbidden):
        check_origin("POST", headers, ["models.example"])
    if headers.get("host") == "models.example":
        with pytest.raises(Forbidden):
            check_origin("POST", headers)


def test_the_front_applies_allowed_hosts(serving: Serving) -> None:
    for host, status in ((ALLOWED_HOST, 200), (f"{ALLOWED_HOST}:8443", 200), (f"x.{ALLOWED_HOST}", 403)):
        headers = {"Host": host, "Sec-Fetch-Site": "same-origin"}
        assert serving.http.post("/v2/repository/index", headers=headers).status_code == status


@pytest.mark.parametrize("page", PAGES)
def test_pages_may_look_and_ask_a_model(serving: Serving, page: dict[str, str]) -> None:
    assert serving.http.get("/v2/models/doubler", headers=page).status_code == 200
    body = json.dumps({"inputs": [[1, 2, 3]]})
    for path in ("/predict/doubler", "/v1/models/doubler:predict", "/predictions/doubler"):
        assert serving.http.post(path, content=body, headers={"Content-Type": "text/plain", **page}).status_code == 200
