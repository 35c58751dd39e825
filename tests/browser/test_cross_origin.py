"""A page of another origin uses a model, if the server allows that origin."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gateway.environments.environment import Environment
from tests.support import ROOT
from tests.support.browser import Browser
from tests.support.gateway_process import Gateway, start_gateway

# Each request needs a preflight request: for its type, for its headers, or for both. The last is refused.
SCRIPT = """
(async () => {
  const url = 'GATEWAY', row = Array(64).fill(0), found = {};
  const post = (path, body, headers) => fetch(url + path, {method: 'POST', body, headers});
  const json = {'Content-Type': 'application/json', 'X-Request-Id': 'a page'};
  const tensor = {name: 'image', shape: [1, 64], datatype: 'FP32'};
  try {
    found.predict = (await (await post('/predict/digits_onnx', JSON.stringify({inputs: {image: [row]}}), json)).json());
    const asked = JSON.stringify({inputs: [{...tensor, data: row}]});
    found.v2 = await (await post('/v2/models/digits_onnx/infer', asked, json)).json();
    const head = new TextEncoder().encode(JSON.stringify({
      inputs: [{...tensor, parameters: {binary_data_size: 256}}], parameters: {binary_data_output: true}}));
    const answer = await post('/v2/models/digits_onnx/infer', new Blob([head, new Float32Array(row)]),
      {'Inference-Header-Content-Length': String(head.length)});
    const bytes = await answer.arrayBuffer(), length = Number(answer.headers.get('inference-header-content-length'));
    found.binary = [...new Float32Array(bytes.slice(length))];
    found.model = (await (await fetch(url + '/v2/models/digits_onnx')).json()).name;
    found.missing = (await post('/predict/none', '{}', json)).status;
    found.unload = (await post('/v2/repository/models/digits_onnx/unload', '{}', json)).status;
  } catch (error) {
    found.error = String(error);
  }
  return found;
})()
"""


class Page(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of another server, which has a page."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text("<!doctype html><title>A page</title><link rel=icon href=data:,>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Page, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def gateway_with_cors(
    port: int, tmp_path_factory: pytest.TempPathFactory, runtime_environment: Callable[[str], Environment]
) -> Iterator[Gateway]:
    runtime_environment("onnx")
    scratch: Path = tmp_path_factory.mktemp("cors")
    shutil.copytree(ROOT / "model_repo" / "digits_onnx", scratch / "repository" / "digits_onnx")
    allowed = f"https://app.example, http://127.0.0.1:{port}"
    started = start_gateway(scratch / "repository", scratch, "--cors-origin", allowed)
    yield started.wait_ready()
    started.close()


def visit(browser: Browser, host: str, port: int, gateway: Gateway) -> dict[str, object]:
    script = SCRIPT.replace("GATEWAY", f"http://{gateway.http}")
    steps = [{"do": "read", "script": script}]
    visited = browser.visit(f"http://{host}:{port}/page.html", steps, allowed=[gateway.http])
    assert visited.refused == []
    found: dict[str, object] = visited.results[0]
    return found


def test_a_page_of_an_allowed_origin(browser: Browser, port: int, gateway_with_cors: Gateway) -> None:
    found = visit(browser, "127.0.0.1", port, gateway_with_cors)
    values = found["v2"]["outputs"][0]["data"]
    assert len(values) == 10
    assert found["binary"] == pytest.approx(values)
    assert found["predict"]["outputs"]["scores"][0] == pytest.approx(values)
    assert (found["model"], found["missing"], found["unload"]) == ("digits_onnx", 404, 403)
    assert "error" not in found


def test_a_page_of_another_origin(browser: Browser, port: int, gateway_with_cors: Gateway) -> None:
    """The same page, by another name of its host."""
    assert visit(browser, "localhost", port, gateway_with_cors) == {"error": "TypeError: Failed to fetch"}
