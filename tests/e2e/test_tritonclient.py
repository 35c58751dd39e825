"""NVIDIA's client, unmodified, in its own environment, against a running gateway."""

from collections.abc import Callable
from pathlib import Path

from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake


def test_tritonclient_http_and_grpc(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    add_fake(repository, "other")
    add_fake(repository, "broken", load_error="it is corrupt")
    text = [{"name": "x", "datatype": "BYTES", "shape": [-1, -1]}]
    add_fake(repository, "text", inputs=text, outputs=[{**text[0], "name": "y"}])
    running = gateway(repository).wait_ready()
    script = Path(__file__).parent / "tritonclient_script.py"
    assert "all of it worked" in run_client(python, script, running.http, running.grpc)
