"""KServe's clients, unmodified, in their own environment, against a running gateway."""

from collections.abc import Callable
from pathlib import Path

from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake


def test_kserve_rest_and_grpc(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    python = client_python("kserve", "kserve==0.21.0")
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository", "--grpc-keepalive-s", "1").wait_ready()
    script = Path(__file__).parent / "kserve_script.py"
    assert "all of it worked" in run_client(python, script, running.http, running.grpc, "m")
