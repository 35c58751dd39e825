"""The routes of a graph: which files they send, to whom, and how."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.domain.control import GetArtifact
from gateway.front.admin import graph
from tests.support.front_server import Serving
from tests.unit.front.admin.test_console import BROWSER
from tests.unit.front.http.test_http import Answers

ARTIFACT = "/console/models/doubler/versions/1/artifact"


@pytest.fixture
def artifact(serving: Serving, tmp_path: Path) -> Path:
    """The file of the model; its folder has another one."""
    file = tmp_path / "model.onnx"
    file.write_bytes(b"0123456789" * 100_000)
    (tmp_path / "secret").write_text("secret")
    files = {"model.onnx": str(file), "some assets/page.html": str(file)}
    answer = {"name": "doubler", "version": "1", "platform": "onnx", "main": "model.onnx", "files": files}
    before = serving.engine.handlers
    serving.engine.handlers = serving.engine._control_handlers()
    serving.engine.handlers.add(GetArtifact, lambda request: answer)
    yield file
    serving.engine.handlers = before


def test_the_list_has_names_and_no_paths(serving: Serving, artifact: Path) -> None:
    assert serving.http.get(ARTIFACT).json() == {
        "name": "doubler",
        "version": "1",
        "platform": "onnx",
        "main": "model.onnx",
        "files": ["model.onnx", "some assets/page.html"],
    }


def test_a_version_may_be_named_by_its_label(serving: Serving, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = replace(serving.engine.model("doubler"), version_labels=("stable",))
    monkeypatch.setattr(serving.engine, "_models", [labelled])
    assert serving.http.get("/console/models/doubler/versions/stable/artifact").json()["version"] == "1"
    assert serving.http.get("/console/models/doubler/versions/none/artifact").status_code == 404


def test_a_file_is_sent_as_a_download(serving: Serving, artifact: Path) -> None:
    """A page among a model's assets must not run in the gateway's origin."""
    for name in ("model.onnx", "some%20assets/page.html"):
        answer = serving.http.get(f"{ARTIFACT}/{name}")
        assert answer.content == artifact.read_bytes()
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
    part = serving.http.get(f"{ARTIFACT}/model.onnx", headers={"range": "bytes=5-6"})
    assert (part.status_code, part.content) == (206, b"56")


NAMES = ["secret", "../secret", "..%2Fsecret", "%2e%2e/secret", "./secret", "some%20assets", "", "model.onnx/", "%00"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_can_be_named(serving: Serving, artifact: Path, name: str) -> None:
    for path in (name, str(artifact.parent / "secret"), f"x/../{name}"):
        with serving.connect() as connection:  # a client library would remove the dots
            connection.sendall(f"GET {ARTIFACT}/{path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
            assert Answers(connection).next()[0] == 404, path


def test_the_viewer_starts_with_our_file(serving: Serving) -> None:
    page = serving.http.get("/console/netron/", headers=BROWSER)
    assert 'src="/console/files/graph_viewer.js"' in page.text
    assert "index.js" not in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert serving.http.get("/console/netron/view.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize("path", ["../METADATA", "..%2fpip/__init__.py", "none.js"])
def test_only_files_of_the_viewer_are_served(serving: Serving, path: str) -> None:
    assert serving.http.get(f"/console/netron/{path}").status_code == 404


def test_without_netron_everything_else_works(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    graph._netron.cache_clear()
    graph._viewer.cache_clear()
    monkeypatch.setattr(graph, "find_spec", lambda name: None)
    for path in ("/console/netron/", "/console/netron/view.js"):
        answer = serving.http.get(path)
        assert (answer.status_code, "netron is missing" in answer.json()["error"]) == (501, True)
