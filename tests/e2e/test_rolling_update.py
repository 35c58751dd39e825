"""A rolling update by the rendered probes, hook and times, under load: no request fails."""

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from gateway.environments.environment import Environment
from tests.e2e.test_chart_starts import VALUES, free_ports, volumes
from tests.support import ROOT
from tests.support.client_environments import client_python
from tests.support.haproxy import running_haproxy
from tests.support.kubelet import Pod
from tests.support.kubernetes_tools import pod_spec, template, with_values
from tests.support.model_repositories import add_copy

SCRIPT = Path(__file__).with_name("rolling_update_script.py")
MODEL = ROOT / "model_repo/digits_onnx/1/model.onnx"
# How long a proxy goes on to send connections to a pod that has been deleted.
LAG_S = 0.3
_WAIT_S = 60


def test_no_request_fails(runtime_environment: Callable[[str], Environment], tmp_path: Path) -> None:
    runtime_environment("onnx")
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    pods: dict[str, Pod] = {}
    ports = {"old": free_ports(), "new": free_ports()}

    def start(name: str, version: str) -> None:
        folder = tmp_path / name
        models = add_copy(folder / "models", "digits", [MODEL], version).parents[1]
        manifests = template(*with_values(folder, {**VALUES, "ports": ports[name]}))
        pods[name] = Pod(pod_spec(manifests), volumes(folder, models=models), folder)
        pods[name].start()

    def delete(name: str) -> int:
        """As Kubernetes does: the endpoint is removed while the hook runs, and proxies learn of it later."""
        removed = threading.Timer(LAG_S, haproxy.set_state, (name, "maint"))
        removed.daemon = True
        removed.start()
        code = pods[name].terminate()
        removed.join(_WAIT_S)
        return code

    outside = [*free_ports().values(), free_ports()["http"]]
    with running_haproxy(ports, outside, tmp_path) as haproxy:
        load = None
        try:
            start("old", "1")
            haproxy.set_state("old", "ready")
            addresses = [
                f"127.0.0.1:{haproxy.ports[name]}" for name in ("http-tcp", "grpc-tcp", "http-http", "grpc-http")
            ]
            load = subprocess.Popen(
                [str(python), "-I", str(SCRIPT), *addresses],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert load.stdout is not None
            assert load.stdout.readline() == "running\n"
            start("new", "2")  # which may surge, and must be ready before another one is deleted
            haproxy.set_state("new", "ready")
            assert delete("old") == 0
            output, _ = load.communicate(timeout=_WAIT_S)
            found = json.loads(output)
        finally:
            if load is not None and load.poll() is None:
                load.kill()
                load.communicate()
            for pod in pods.values():
                pod.close()
    assert [each for client in found for each in client["failures"]] == []
    assert len(found) == 16
    for client in found:
        assert client["versions"] == ["1", "2"], client
        assert client["requests"] > 100
