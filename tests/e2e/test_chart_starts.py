"""The container of the rendered chart, started as a process: it passes its probes, serves, and ends within its time."""

import json
import shutil
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.environments.environment import Environment
from tests.support import ROOT
from tests.support.certificates import Authority
from tests.support.kubelet import Pod
from tests.support.kubernetes_tools import pod_spec, template, with_values
from tests.support.model_repositories import add_copy
from tests.support.stores import put_s3, start_s3

VALUES: dict[str, Any] = {
    "listenAddress": "127.0.0.1",
    "models": {"volume": {"emptyDir": {}}},
    "extraArgs": ["--only", "onnx"],
    "settings": {"max_admitted_bytes": 1 << 28},
    "shutdown": {"preStopSeconds": 1, "drainSeconds": 2, "graceSeconds": 10},
}


def free_ports() -> dict[str, int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    numbers = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return dict(zip(("http", "grpc", "metrics"), numbers, strict=True))


@pytest.fixture
def models(tmp_path: Path, runtime_environment: Callable[[str], Environment]) -> Path:
    runtime_environment("onnx")
    return add_copy(tmp_path / "models", "digits", [ROOT / "model_repo/digits_onnx/1/model.onnx"]).parents[1]


def volumes(folder: Path, **given: Path) -> dict[str, Path]:
    (folder / "tmp").mkdir()
    return {"tmp": folder / "tmp", **given}


def test_the_container_as_rendered(models: Path, tmp_path: Path) -> None:
    manifests = template(*with_values(tmp_path, {**VALUES, "ports": free_ports()}))
    pod = Pod(pod_spec(manifests), volumes(tmp_path, models=models), tmp_path)
    try:
        pod.start()
        url = f"http://127.0.0.1:{pod.ports['http']}"
        body = json.dumps({"inputs": {"image": [[0.0] * 64]}}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{url}/predict/digits", body)) as answer:
            assert "outputs" in json.load(answer)
        with urllib.request.urlopen(f"http://127.0.0.1:{pod.ports['metrics']}/metrics") as answer:
            assert b"modelport_requests_queued" in answer.read()
        assert pod.terminate() == 0
        assert all(json.loads(line) for line in pod.log), "the chart has the log written as JSON"
    finally:
        pod.close()


def test_with_client_certificates_and_identities(models: Path, tmp_path: Path) -> None:
    """The probes are commands, and readiness has a certificate. Secrets are folders."""
    secrets = {name: tmp_path / name for name in ("tls", "client-ca", "probe", "identities", "keys")}
    for folder in (*secrets.values(), tmp_path / "authorities"):
        folder.mkdir()
    servers, clients = (Authority(tmp_path / "authorities", name) for name in ("servers", "clients"))
    for folder, issued in (("tls", servers.server()), ("probe", clients.client("probe"))):
        shutil.copy(issued.cert, secrets[folder] / "tls.crt")
        shutil.copy(issued.key, secrets[folder] / "tls.key")
    shutil.copy(clients.cert, secrets["client-ca"] / "ca.crt")
    key = "k" * 40
    (secrets["keys"] / "shop").write_text(key)
    # Where the chart mounts the keys; the test's folder is another.
    config = f'[identities.shop]\nroles = ["infer"]\n[keys]\nfolder = "{secrets["keys"]}"\n'
    (secrets["identities"] / "identities.toml").write_text(config)
    values = {
        **VALUES,
        "ports": free_ports(),
        "tls": {"existingSecret": "a", "clientCA": {"existingSecret": "b"}, "probeSecret": "c"},
        "identities": {"existingSecret": "d", "keysSecret": "e"},
    }
    pod = Pod(pod_spec(template(*with_values(tmp_path, values))), volumes(tmp_path, models=models, **secrets), tmp_path)
    try:
        pod.start()
        context = servers.client_context(clients.client("shop"))
        request = urllib.request.Request(
            f"https://localhost:{pod.ports['http']}/predict/digits",
            json.dumps({"inputs": {"image": [[0.0] * 64]}}).encode(),
            {"Authorization": f"Bearer {key}"},
        )
        with urllib.request.urlopen(request, context=context) as answer:
            assert "outputs" in json.load(answer)
        assert pod.terminate() == 0
    finally:
        pod.close()


def test_models_of_a_bucket_survive_the_pod(models: Path, tmp_path: Path) -> None:
    """The next pod with the same volume serves without the store."""
    store = start_s3()
    put_s3(store, "production/digits/1/model.onnx", (models / "digits/1/model.onnx").read_bytes())
    (tmp_path / "cache").mkdir()
    mounted = volumes(tmp_path, **{"model-cache": tmp_path / "cache"})
    try:
        for store_is_there in (True, False):
            if not store_is_there:
                store.kill()
            values = {
                **VALUES,
                "ports": free_ports(),
                "models": {"volume": {}},
                "repositories": ["s3://models/production"],
                "modelCache": {"enabled": True},
                "extraEnv": [{"name": name, "value": value} for name, value in store.variables.items()],
            }
            pod = Pod(pod_spec(template(*with_values(tmp_path, values))), mounted, tmp_path)
            try:
                pod.start()
                body = json.dumps({"inputs": {"image": [[0.0] * 64]}}).encode()
                url = f"http://127.0.0.1:{pod.ports['http']}/predict/digits"
                with urllib.request.urlopen(urllib.request.Request(url, body)) as answer:
                    assert "outputs" in json.load(answer)
                assert pod.terminate() == 0
            finally:
                pod.close()
    finally:
        store.kill()


def test_a_container_that_does_not_start_fails_its_probe(tmp_path: Path) -> None:
    """So that the tests above can fail."""
    values = {**VALUES, "ports": free_ports(), "extraArgs": ["--fronts", "none"]}
    pod = Pod(pod_spec(template(*with_values(tmp_path, values))), volumes(tmp_path, models=tmp_path), tmp_path)
    try:
        with pytest.raises(AssertionError, match="fronts"):
            pod.start()
    finally:
        pod.close()


def test_the_runtime_of_kserve(models: Path, tmp_path: Path) -> None:
    """With what KServe adds: the name of the InferenceService, and its artifact, without a layout, at /mnt/models."""
    runtime = yaml.safe_load((ROOT / "deploy/kserve/runtime.yaml").read_text())
    spec = json.loads(json.dumps(runtime["spec"]).replace("{{.Name}}", "resnet"))
    spec["containers"][0]["volumeMounts"].append({"name": "model", "mountPath": "/mnt/models"})
    folder = tmp_path / "artifact"
    shutil.copytree(models / "digits/1", folder)
    ports = dict(zip((8080, 9000, 8002), free_ports().values(), strict=True))
    pod = Pod(spec, volumes(tmp_path, model=folder), tmp_path, ports)
    try:
        pod.start()
        url = f"http://127.0.0.1:{ports[8080]}"
        body = json.dumps({"instances": [[0.0] * 64]}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/models/resnet:predict", body)) as answer:
            assert "predictions" in json.load(answer)
        annotations = runtime["spec"]["annotations"]
        port = ports[int(annotations["prometheus.kserve.io/port"])]
        path = annotations["prometheus.kserve.io/path"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            assert b"modelport_requests_queued" in answer.read()
        with socket.create_connection(("127.0.0.1", ports[9000])):
            pass
        assert pod.terminate() == 0
    finally:
        pod.close()
