"""SageMaker's API for endpoints with several models: its paths, which TorchServe has as well, and who may use it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from gateway.domain.control import LoadModel
from gateway.domain.deployment import Deployment
from gateway.domain.types import ModelStatus
from gateway.engine.fake import FakeEngine
from gateway.errors import OutOfMemory
from gateway.front.admin.app import build_admin
from gateway.front.base.access import action_of
from gateway.front.base.app_routes import AppRoute
from gateway.front.base.limits import Limits
from gateway.front.http.routes import match


def engine(folder: Path | str = "") -> FakeEngine:
    made = FakeEngine([ModelStatus("there", "1", "READY")], lambda request: [])
    made.deployment = Deployment(sagemaker_models=str(folder))
    return made


def client(made: FakeEngine) -> TestClient:
    return TestClient(build_admin(made, Limits()), "http://127.0.0.1")


def test_only_administrators_change_anything(tmp_path: Path) -> None:
    app = build_admin(engine(tmp_path), Limits())
    routes = [route for route in app.routes if getattr(route, "path", "").startswith("/models")]
    actions = {
        (route.path, method): action_of(route.endpoint, method)
        for route in routes
        if isinstance(route, AppRoute) and route.endpoint.__module__.endswith("sagemaker")
        for method in route.methods
    }
    assert actions == {
        ("/models", "POST"): "admin",
        ("/models", "GET"): "read",
        ("/models/{model}", "GET"): "read",
        ("/models/{model}", "DELETE"): "admin",
    }


def test_without_the_setting_the_paths_are_torchserves(tmp_path: Path) -> None:
    app = client(engine())
    assert app.get("/models").json() == {"models": [{"modelName": "there"}]}
    body = {"model_name": "m", "url": str(tmp_path)}
    assert app.post("/models", json=body).json()["type"] == "MethodNotAllowedException"
    assert app.delete("/models/there").status_code == 405


def test_with_it_they_are_sagemakers(tmp_path: Path) -> None:
    made = engine(tmp_path)
    app = client(made)
    assert app.get("/models").json() == {"models": []}
    place = tmp_path / "m" / "model"
    place.mkdir(parents=True)
    answer = app.post("/models", json={"model_name": "m", "url": str(place)})
    assert (answer.status_code, answer.json()) == (200, {"modelName": "m", "modelUrl": str(place)})
    assert made.loaded == [LoadModel("m", place=str(place))]
    assert app.get("/models/m").json() == {"modelName": "m", "modelUrl": str(place)}
    assert app.get("/models/there").status_code == 404  # it was not loaded by SageMaker
    assert app.delete("/models/there").status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"model_name": 3, "url": "m"}, 400),
        ({"model_name": "../m", "url": "m"}, 400),
        ({"model_name": "m"}, 400),
        ({"model_name": "m", "url": ["m"]}, 400),
        ({"model_name": "m", "url": "relative"}, 400),
        ({"model_name": "m", "url": "/etc"}, 400),
        ({"model_name": "m", "url": "TOP"}, 400),
        ({"model_name": "m", "url": "TOP/nothing"}, 400),
        ({"model_name": "m", "url": "TOP/leaves"}, 400),
        ({"model_name": "m", "url": "TOP/inside/../../inside"}, 400),
        ({"model_name": "m", "url": "TOP/inside\0"}, 400),
        ({"model_name": "there", "url": "TOP/inside"}, 409),
        ({"model_name": "m", "url": "TOP/inside"}, 200),
        ({"model_name": "m", "url": "TOP/inside/../inside"}, 200),
    ],
)
def test_what_is_loaded(tmp_path: Path, body: Mapping[str, Any], status: int) -> None:
    top = tmp_path / "models"
    (top / "inside").mkdir(parents=True)
    (top / "leaves").symlink_to(tmp_path)
    made = engine(top)
    sent = {key: value.replace("TOP", str(top)) if isinstance(value, str) else value for key, value in body.items()}
    answer = client(made).post("/models", json=sent)
    assert answer.status_code == status
    assert bool(made.loaded) == (status == 200)


def test_a_model_that_does_not_fit_is_507(tmp_path: Path) -> None:
    made = engine(tmp_path)
    (tmp_path / "m").touch()

    def refuse(request: LoadModel) -> None:
        raise OutOfMemory("there is not enough memory")

    made.handlers.add(LoadModel, refuse)
    assert client(made).post("/models", json={"model_name": "m", "url": str(tmp_path / "m")}).status_code == 507


def test_pages(tmp_path: Path) -> None:
    made = engine(tmp_path)
    made.loaded += [LoadModel(f"m{number}", place=f"/models/{number}") for number in range(5)]
    app, seen, token = client(made), [], ""
    while True:
        page = app.get("/models", params={"limit": "2", **({"next_page_token": token} if token else {})}).json()
        seen += [each["modelName"] for each in page["models"]]
        if not (token := page.get("nextPageToken", "")):
            break
    assert seen == ["m0", "m1", "m2", "m3", "m4"]
    for limit in ("0", "-1", "x", "1e3"):
        assert app.get("/models", params={"limit": limit}).status_code == 400


def test_invoke_is_a_hot_path() -> None:
    route = match(b"/models/m/invoke")
    assert route is not None
    assert route.model == "m"
    assert match(b"/models/m") is None
    assert match(b"/models//invoke") is None
