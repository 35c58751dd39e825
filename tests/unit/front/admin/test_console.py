"""The console's routes: who gets pages, what pages are allowed to do, and which figures they get."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

import gateway.console
from gateway.domain.identity import Identity
from gateway.domain.pipeline import Step
from gateway.domain.types import ModelStatus
from gateway.engine.fake import FakeEngine
from gateway.front.admin.app import build_admin
from runtimes.contract import Signature, TensorSpec
from tests.support.front_server import LIMITS, Serving, in_thread

FOLDER = Path(gateway.console.__file__).parent
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_browser_gets_the_console_and_others_get_what_kserve_answers(serving: Serving) -> None:
    page = serving.http.get("/", headers=BROWSER)
    assert page.headers["content-type"].startswith("text/html")
    assert "<title>modelport</title>" in page.text
    for accept in ("*/*", "application/json"):
        other = serving.http.get("/", headers={"accept": accept})
        assert other.json() == {"status": "alive"}
        assert other.headers["vary"] == page.headers["vary"] == "accept"


@pytest.mark.parametrize("path", ["/", "/docs", "/console", "/console/files/api.js", "/console/models/a/graph"])
def test_load_balancers_may_ask_for_a_page_with_head(serving: Serving, path: str) -> None:
    for headers in ({}, BROWSER):
        answer, whole = serving.http.head(path, headers=headers), serving.http.get(path, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(whole.content))


@pytest.mark.parametrize("path", ["/console", "/console/models/doubler", "/console/models/none/versions/7"])
def test_pages_may_only_use_this_server(serving: Serving, path: str) -> None:
    page = serving.http.get(path, headers=BROWSER)
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


def test_every_file_that_a_page_names_is_served(serving: Serving) -> None:
    named: set[str] = set()
    for file in [*FOLDER.glob("*.html"), *FOLDER.glob("*.js")]:
        named |= set(re.findall(r"/console/files/[\w./-]+", file.read_text()))
        named |= {f"/console/files/{name}" for name in re.findall(r'from "\./([\w./-]+)"', file.read_text())}
    assert named
    for path in sorted(named):
        answer = serving.http.get(path)
        assert answer.status_code == 200, path
        again = serving.http.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304
        assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["none.js", "../config.py", "..%2f..%2fpyproject.toml", "", "vendor", "vendored.py"])
def test_only_files_of_the_console_are_served(serving: Serving, path: str) -> None:
    assert serving.http.get(f"/console/files/{path}").status_code == 404


def test_the_data_has_the_models_that_the_client_may_read_about() -> None:
    class OnlyDoubler:
        def identify(self, caller: object) -> Identity:
            return Identity("someone", {"read": ["doubler"]})

        def record(self, event: object) -> None:
            pass

    with in_thread(OnlyDoubler()) as serving:
        names = {model["name"] for model in serving.http.get("/console/data").json()["models"]}
    assert names == {"doubler"}


def test_without_the_console_browsers_get_what_others_get() -> None:
    async def ask() -> tuple[object, int]:
        app = build_admin(FakeEngine([], lambda request: []), LIMITS, console=False)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            root = await client.get("/", headers=BROWSER)
            return root.json(), (await client.get("/console", headers=BROWSER)).status_code

    assert asyncio.run(ask()) == ({"status": "alive"}, 404)


class MayInferDoubler:
    def identify(self, caller: object) -> Identity:
        return Identity("someone", {"read": ["doubler"], "infer": ["*"]})

    def record(self, event: object) -> None:
        pass


def test_the_data_of_one_model_says_what_the_client_may_do() -> None:
    with in_thread(MayInferDoubler()) as serving:
        (doubler,) = serving.http.get("/console/data", params={"model": "doubler"}).json()["models"]
        assert doubler["may"] == ["infer", "read"]
        assert serving.http.get("/console/data", params={"model": "broken"}).json()["models"] == []
        assert serving.http.get("/console/models/doubler/configuration").status_code == 200
        assert serving.http.get("/console/models/broken/configuration").status_code == 403
    with in_thread() as serving:
        (doubler,) = serving.http.get("/console/data", params={"model": "doubler"}).json()["models"]
        assert doubler["may"] == ["infer", "read", "admin"]


def test_the_interface_of_a_version(serving: Serving) -> None:
    found = serving.http.get("/console/models/doubler/configuration").json()
    (signature,) = found["signatures"]
    assert signature["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 3], "optional": False, "has_rows": True}
    ]
    assert (found["name"], found["version"], found["values"]) == ("doubler", "1", [])
    assert serving.http.get("/console/models/none/configuration").status_code == 404
    assert serving.http.get("/console/models/doubler/versions/7/configuration").status_code == 404


def test_the_interface_says_what_a_request_may_leave_out_and_what_only_json_has() -> None:
    x, mask, w, y = (TensorSpec(name, "FP32", (-1, 2)) for name in ("x", "mask", "w", "y"))
    refused = {"maps": "it is a map", "parts": "it is sparse"}
    signature = Signature((x, mask), (y,), refused, ("mask",), unbatched=(w,), json=("maps",))
    status = ModelStatus("m", "1", "READY", admits=True, signatures={"default": signature})

    (found,) = ask([status], "m")["signatures"]
    inputs = [(each["name"], each["optional"], each["has_rows"]) for each in found["inputs"]]
    assert inputs == [("x", False, True), ("mask", True, True), ("w", True, False)]
    assert (found["refused"], found["json"]) == ({"parts": "it is sparse"}, ["maps"])


def ask(statuses: list[ModelStatus], model: str) -> Any:
    """Return what the page of a model gets."""

    async def get() -> Any:
        app = build_admin(FakeEngine(statuses, lambda request: []), LIMITS)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return (await client.get(f"/console/models/{model}/configuration")).json()

    return asyncio.run(get())


def test_which_requests_need_a_sequence() -> None:
    """Those of a pipeline do if one of its steps does, also in a pipeline inside. A step may have been unloaded."""
    one = {"default": Signature((), ())}
    plain, talk = (
        ModelStatus(name, "1", "READY", signatures=one, sequence=name == "talk") for name in ("plain", "talk")
    )
    runs = {"other": ["plain"], "inner": ["gone", "talk"], "outer": ["plain", "inner"], "left": ["gone"]}
    pipelines = [
        ModelStatus(name, "1", "READY", signatures=one, steps=tuple(Step(each, "", {}, {}) for each in models))
        for name, models in runs.items()
    ]
    loop = ModelStatus("loop", "1", "UNAVAILABLE", steps=(Step("loop", "", {}, {}),))
    statuses = [plain, talk, *pipelines, loop]
    assert {each.name for each in statuses if ask(statuses, each.name)["sequence"]} == {"talk", "inner", "outer"}
