"""The contracts of platforms: a real gateway with a platform's variables, arguments and folders, and its requests.

The tests play the platforms: probes until the server is ready, requests, and SIGTERM. Nothing ran in a platform.
"""

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake
from tests.support.platform_container import start_container
from tests.support.stores import put_gcs, start_gcs

ROWS = [[1.0, 2.0, 3.0, 4.0]]
DOUBLED = [[2.0, 4.0, 6.0, 8.0]]


@pytest.fixture
def containers() -> Iterator[list[Gateway]]:
    """Those that a test has started."""
    started: list[Gateway] = []
    yield started
    for each in started:
        each.close()


@pytest.fixture
def port() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def artifact(folder: Path, **described: Any) -> Path:
    """A folder with an artifact and nothing else."""
    folder.mkdir(parents=True)
    (folder / "model.fake.json").write_text(json.dumps(described))
    return folder


def wait_until(running: Gateway, path: str) -> None:
    """Probe as platforms do: 503 until 200, and nothing else."""
    while (status := running.get(path).status) != 200:
        assert status == 503


def on_all_addresses(running: Gateway, port: str) -> None:
    assert running.http == f"0.0.0.0:{port}"
    running.http = f"127.0.0.1:{port}"


def test_sagemaker(tmp_path: Path, port: str, containers: list[Gateway]) -> None:
    model = artifact(tmp_path / "model", load_seconds=1)
    running = start_container(
        tmp_path, ["serve"], {"SAGEMAKER_BIND_TO_PORT": port}, {"/opt/ml/model": model}
    )  # fmt: skip
    containers.append(running)
    on_all_addresses(running, port)
    running.wait_for(r"serving /opt/ml/model: SageMaker puts its model there")
    running.wait_for(r'front\.\d+.*[ "]serving')
    wait_until(running, "/ping")
    assert running.post("/invocations", {"instances": ROWS}).json() == {"predictions": {"y": DOUBLED}}
    reply = running.post("/invocations", b"1,2,3,4\n", {"Content-Type": "text/csv; header=absent"})
    assert reply.json() == {"predictions": {"y": DOUBLED}}
    # Nobody on the network may change the server.
    assert running.post("/models", {"model_name": "x", "url": "/opt/ml/model"}).status == 403
    assert running.terminate() == 0


def test_sagemaker_with_several_models(tmp_path: Path, port: str, containers: list[Gateway]) -> None:
    models = tmp_path / "models"
    for name in ("a1", "b2", "c3"):
        artifact(models / name / "model")
    artifact(models / "broken" / "model", load_error="it is corrupt")
    artifact(tmp_path / "outside")
    (models / "link").symlink_to("/mnt")
    environment = {"SAGEMAKER_BIND_TO_PORT": port, "SAGEMAKER_MULTI_MODEL": "true"}
    running = start_container(tmp_path, ["serve"], environment, {"/opt/ml/models": models})
    containers.append(running)
    on_all_addresses(running, port)
    running.wait_for("SAGEMAKER_MULTI_MODEL: SageMaker loads the models")
    running.wait_for(r'front\.\d+.*[ "]serving')
    wait_until(running, "/ping")

    def load(name: str, url: str) -> tuple[int, Any]:
        reply = running.post("/models", {"model_name": name, "url": url})
        return reply.status, reply.json()

    def entry(name: str) -> dict[str, str]:
        return {"modelName": name, "modelUrl": f"/opt/ml/models/{name}/model"}

    assert running.get("/models").json() == {"models": []}
    assert running.post("/models/a1/invoke", {"instances": ROWS}).status == 404
    for name in ("a1", "b2", "c3"):
        assert load(name, f"/opt/ml/models/{name}/model") == (200, entry(name))
        headers = {"X-Amzn-SageMaker-Target-Model": f"path/{name}.tar.gz"}
        reply = running.post(f"/models/{name}/invoke", {"instances": ROWS}, headers)
        assert (reply.status, reply.json()) == (200, {"predictions": {"y": DOUBLED}})
    assert load("a1", "/opt/ml/models/b2/model")[0] == 409
    assert load("d4", "/opt/ml/models/broken/model")[0] == 503
    for url in (
        "/mnt",
        "/opt/ml/models/link",
        "/opt/ml/models/../model",
        "/opt/ml/models",
        "models/a1",
        "/opt/ml/models/x",
    ):
        assert load("d4", url)[0] == 400, url
    page = running.get("/models?limit=2").json()
    assert page == {"models": [entry("a1"), entry("b2")], "nextPageToken": "b2"}
    assert running.get("/models?limit=2&next_page_token=b2").json() == {"models": [entry("c3")]}
    assert running.get("/models/b2").json() == entry("b2")
    assert running.request("DELETE", "/models/b2").status == 200
    assert running.request("DELETE", "/models/b2").status == 404
    assert running.get("/models/b2").status == 404
    assert running.post("/models/b2/invoke", {"instances": ROWS}).status == 404
    assert load("b2", "/opt/ml/models/b2/model")[0] == 200  # again, from the same place
    for name in ("a1", "b2", "c3"):
        assert running.request("DELETE", f"/models/{name}").status == 200
    assert running.get("/models").json() == {"models": []}
    assert running.get("/ping").status == 200
    assert running.terminate() == 0


def test_vertex_ai(tmp_path: Path, port: str, containers: list[Gateway]) -> None:
    model = artifact(tmp_path / "model", load_seconds=1)
    routes = {"AIP_HEALTH_ROUTE": "/v1/endpoints/7/deployedModels/8", "AIP_PREDICT_ROUTE": "/v1/endpoints/7:predict"}
    environment = {"AIP_MODE": "PREDICTION", "AIP_HTTP_PORT": port, "AIP_STORAGE_URI": str(model), **routes}
    running = start_container(tmp_path, ["serve"], environment)
    containers.append(running)
    on_all_addresses(running, port)
    running.wait_for("AIP_STORAGE_URI, from Vertex AI")
    with socket.create_connection(("127.0.0.1", int(port))):
        pass  # the probe that tells whether it lives
    running.wait_for(r'front\.\d+.*[ "]serving')
    wait_until(running, routes["AIP_HEALTH_ROUTE"])
    body = {"instances": [{"x": ROWS[0]}, {"x": ROWS[0]}], "parameters": {}}
    assert running.post(routes["AIP_PREDICT_ROUTE"], body).json() == {"predictions": DOUBLED * 2}
    raw = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROWS}]}
    (output,) = running.post(routes["AIP_PREDICT_ROUTE"], raw).json()["outputs"]
    assert output == {"name": "y", "datatype": "FP32", "shape": [1, 4], "data": DOUBLED[0]}
    assert running.terminate() == 0


def test_vertex_ai_with_a_bucket(tmp_path: Path, port: str, containers: list[Gateway]) -> None:
    (tmp_path / "gcs").mkdir()
    store = start_gcs(tmp_path / "gcs")
    try:
        put_gcs(store, "artifacts/3/model.fake.json", b"{}")
        environment = {
            "AIP_MODE": "PREDICTION",
            "AIP_HTTP_PORT": port,
            "AIP_STORAGE_URI": "gs://models/artifacts/3",
            "MODELPORT_MODEL_CACHE": str(tmp_path / "cache"),
            **store.variables,
        }
        running = start_container(tmp_path, ["serve"], environment)
        containers.append(running)
        on_all_addresses(running, port)
        running.wait_for(r'front\.\d+.*[ "]serving')
        wait_until(running, "/health")
        assert running.post("/invocations", {"instances": ROWS}).json() == {"predictions": {"y": DOUBLED}}
    finally:
        store.kill()


def test_azure_machine_learning(tmp_path: Path, port: str, containers: list[Gateway]) -> None:
    """A registered folder is a folder in the folder of its version. The port is a free one."""
    deployment = yaml.safe_load((ROOT / "deploy" / "azureml" / "deployment.yml").read_text())
    routes = deployment["environment"]["inference_config"]
    assert {each["port"] for each in routes.values()} == {8080}
    artifact(tmp_path / "azureml-models" / "digits" / "1" / "digits_onnx")
    environment = {
        "AZUREML_MODEL_DIR": str(tmp_path / "azureml-models" / "digits" / "1"),
        **deployment["environment_variables"],
        "MODELPORT_HTTP": f"0.0.0.0:{port}",
        "MODELPORT_LOG": "text",
    }
    running = start_container(tmp_path, ["serve"], environment)
    containers.append(running)
    on_all_addresses(running, port)
    running.wait_for("AZUREML_MODEL_DIR, from Azure Machine Learning")
    running.wait_for(r'front\.\d+.*[ "]serving')
    assert running.get(routes["liveness_route"]["path"]).status == 200
    wait_until(running, routes["readiness_route"]["path"])
    assert running.post(routes["scoring_route"]["path"], {"inputs": {"x": ROWS}}).json() == {
        "predictions": {"y": DOUBLED}
    }
    assert running.get("/v2/models").json() == {"models": ["digits"]}
    assert running.terminate() == 0


FORMS = ["artifact", "version", "model", "repository"]


@pytest.mark.parametrize("form", FORMS)
def test_kserve(tmp_path: Path, port: str, containers: list[Gateway], form: str) -> None:
    """KServe's runtimes start a container with the name of the InferenceService, in the spelling of its own servers."""
    models, name = tmp_path / "models", "flowers"
    if form == "artifact":
        artifact(models)
    elif form == "version":
        artifact(models / "1")
    else:
        add_fake(models if form == "repository" else tmp_path, "flowers" if form == "repository" else "models")
    arguments = ["serve", "--model_name=flowers", "--model_dir=/mnt/models", f"--http_port={port}", "--grpc_port=0"]
    running = start_container(tmp_path, arguments, {}, {"/mnt/models": models})
    containers.append(running)
    on_all_addresses(running, port)
    running.wait_for(r'front\.\d+.*[ "]serving')
    wait_until(running, "/v2/health/ready")
    python = client_python("kserve", "kserve==0.21.0")
    script = Path(__file__).parent / "kserve_script.py"
    if form == "artifact":
        grpc = running.grpc.replace("0.0.0.0", "127.0.0.1")
        assert "all of it worked" in run_client(python, script, running.http, grpc, name)
    assert running.get("/v1/models").json() == {"models": [name]}
    assert running.post(f"/v1/models/{name}:predict", {"instances": ROWS}).json() == {"predictions": DOUBLED}
    assert running.terminate() == 0


def test_kserve_without_arguments(tmp_path: Path, containers: list[Gateway]) -> None:
    """A custom predictor: its ports are KServe's, unless the image says otherwise."""
    environment = {"MODELPORT_HTTP": "127.0.0.1:0", "MODELPORT_GRPC": "127.0.0.1:0"}
    running = start_container(tmp_path, ["serve"], environment, {"/mnt/models": artifact(tmp_path / "models")})
    containers.append(running)
    running.wait_for("serving /mnt/models: KServe puts its model there")
    running.wait_ready()
    assert running.get("/v1/models").json() == {"models": ["models"]}


def test_kserves_puller_of_models(tmp_path: Path, port: str, containers: list[Gateway]) -> None:
    """It puts models into the folder, and posts to the server in the same pod, without credentials."""
    models = tmp_path / "models"
    models.mkdir()
    arguments = [
        "serve", "/mnt/models", "--http", f"0.0.0.0:{port}", "--repository-control", "explicit",
        "--allow-anonymous-admin",
    ]  # fmt: skip
    running = start_container(tmp_path, arguments, {}, {"/mnt/models": models})
    containers.append(running)
    on_all_addresses(running, port)
    running.wait_for(r'front\.\d+.*[ "]serving')
    wait_until(running, "/v2/health/ready")
    artifact(models / "m" / "1")
    assert running.post("/v2/repository/models/m/load").status == 200
    assert running.infer("m", {"x": ROWS}) == {"y": DOUBLED}
    assert running.post("/v2/repository/models/m/unload").status == 200
    shutil.rmtree(models / "m")
    assert running.post("/v2/repository/models/m/load").status == 404
