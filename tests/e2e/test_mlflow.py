"""Models that the real mlflow saves, and scores: the gateway's answers to the same bodies are compared."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.environments.runtime import discover
from tests.support.client_environments import client_python, run_client
from tests.support.environments import ready_environment
from tests.support.gateway_process import Gateway, start_gateway

SCRIPT = Path(__file__).parent / "mlflow_script.py"
CLIENT = (
    "mlflow-skinny==3.17.2", "pandas==2.3.3", "scikit-learn==1.8.0", "onnx==1.23.2", "onnxruntime==1.31.1",
    "numpy==2.4.6",
)  # fmt: skip
VERTEX = "/v1/endpoints/7:predict"


@pytest.fixture(scope="module")
def torch() -> str:
    """A folder with PyTorch: the packages of the runtime's environment."""
    python = ready_environment(discover()["torchscript"]).python
    return str(next(python.parent.parent.glob("lib/python*/site-packages")))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, torch: str) -> Path:
    folder = tmp_path_factory.mktemp("mlflow") / "repository"
    assert "all of it worked" in run_client(client_python("mlflow", *CLIENT), SCRIPT, "save", str(folder), torch)
    return folder


@pytest.fixture(scope="module")
def running(saved: Path) -> Iterator[Gateway]:
    gateway = start_gateway(
        saved, saved.parent, "--allow-python", "--invocations-model", "people",
        AIP_PREDICT_ROUTE=VERTEX, AIP_HEALTH_ROUTE="/alive",
    )  # fmt: skip
    try:
        yield gateway.wait_ready()
    finally:
        gateway.close()


def test_answers_are_those_of_mlflow(running: Gateway, saved: Path, torch: str) -> None:
    states = {name: entry for (name, _), entry in running.index().items() if entry["state"] != "READY"}
    assert states == {}
    python = client_python("mlflow", *CLIENT)
    assert "all of it worked" in run_client(python, SCRIPT, "score", str(saved), torch, f"http://{running.http}")


def test_each_is_served_by_the_runtime_that_reads_it(running: Gateway) -> None:
    names = ("people", "events", "onnx_tensor", "onnx_table", "scripted", "exported")
    platforms = {name: running.get(f"/v2/models/{name}").json()["platform"] for name in names}
    assert platforms == {
        "people": "mlflow",
        "events": "mlflow",
        "onnx_tensor": "onnxruntime_onnx",
        "onnx_table": "onnxruntime_onnx",
        "scripted": "pytorch_libtorch",
        "exported": "torch_export",
    }


def test_columns_are_inputs_of_every_protocol(running: Gateway) -> None:
    inputs = {"age": [20, 50], "height": [1.5, 1.8], "city": ["a", "b"]}
    assert running.infer("people", inputs) == {"predictions": [0, 1]}


def test_vertex_ai(running: Gateway) -> None:
    rows = [{"age": 20, "height": 1.5, "city": "a"}, {"age": 50, "height": 1.8, "city": "b"}]
    assert running.post(VERTEX, {"instances": rows}).json() == {"predictions": [0, 1]}
    assert running.get("/alive").status == 200


def test_what_mlflow_refuses_is_the_clients_error(running: Gateway) -> None:
    body = {"inputs": {"at": ["no date"], "blob": ["AA=="]}}
    reply = running.post("/invocations", body, {"X-Amzn-SageMaker-Target-Model": "events"})
    assert reply.status == 400
    assert "column 'at' has a value that is not a date" in reply.json()["message"]
