"""The Helm chart: what it makes of values, by helm, Kubernetes' schemas and the profile `restricted`."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import Settings
from gateway.environments.runtime import discover
from tests.support import ROOT
from tests.support.kubernetes_tools import (
    CHART,
    EXAMPLES,
    container,
    of_kind,
    pod_spec,
    problems,
    refusal,
    run_helm,
    template,
    with_values,
)
from tests.support.prometheus import needed

EVERYTHING = {
    "image": {"digest": "sha256:" + 64 * "a"},
    "imagePullSecrets": [{"name": "registry"}],
    "settings": {"max_admitted_bytes": 1 << 31, "strict_readiness": True, "trace_ratio": 0.5, "load_model": "a,b"},
    "files": {"models.config": "model_config_list {}"},
    "models": {"volume": {"nfs": {"server": "nfs.example", "path": "/models"}}, "subPath": "production"},
    "home": {"enabled": True},
    "modelCache": {"enabled": True},
    "tmp": {"volume": {"emptyDir": {"sizeLimit": "4Gi"}}},
    "tls": {"existingSecret": "tls"},
    "identities": {"existingSecret": "identities", "keysSecret": "keys"},
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}, "trafficDistribution": "PreferClose"},
    "autoscaling": {"hpa": {"enabled": True, "queued": 8}},
    "networkPolicy": {
        "from": [{"podSelector": {}}],
        "metricsFrom": [{"namespaceSelector": {}}],
        "egress": [{"ports": [{"port": 443}]}],
    },
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
    "gpu": {"enabled": True, "count": 2, "runtimeClassName": "nvidia"},
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]
            }
        }
    },
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "priorityClassName": "serving",
    "podAnnotations": {"number": "1"},
    "podLabels": {"team": "vision"},
    "commonLabels": {"cost": "42"},
    "extraArgs": ["--only", "onnx", "--poll-s", 5],
    "extraEnv": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    "extraEnvFrom": [{"secretRef": {"name": "bucket"}}],
    "extraVolumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
    "extraVolumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    "initContainers": [{"name": "wait", "image": "busybox", "command": ["true"]}],
    "extraContainers": [{"name": "proxy", "image": "proxy"}],
}
NOTHING = {
    "repositories": [],
    "shutdown": {"preStopSeconds": 0, "drainSeconds": 0, "graceSeconds": 0.5},
    "serviceAccount": {"create": False},
    "service": {"headless": False},
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "topologySpread": False,
    "resources": {},
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("values")
    found = {"defaults": template()}
    found.update((example.stem, template("--values", str(example))) for example in EXAMPLES)
    for name, values in (("everything", EVERYTHING), ("nothing", NOTHING)):
        found[name] = template(*with_values(folder, values))
    return found


def test_helm_lint() -> None:
    for arguments in ([], *(["--values", str(example)] for example in EXAMPLES)):
        done = run_helm("lint", "--strict", str(CHART), *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_manifest_has_known_fields_only(rendered: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    manifests = [each for found in rendered.values() for each in found]
    kinds = {each["kind"] for each in manifests}
    assert {"Deployment", "HorizontalPodAutoscaler", "ScaledObject", "PodMonitor", "PrometheusRule"} <= kinds
    assert problems(manifests, tmp_path) == []


def test_a_misspelt_field_is_found(rendered: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    """So that the test above can fail, for each kind of schema."""
    manifests = json.loads(json.dumps(rendered["keda"]))
    wrong = of_kind(manifests, "Deployment") + of_kind(manifests, "ScaledObject") + of_kind(manifests, "PodMonitor")
    for each in wrong:
        each["spec"]["selecter"] = {}
    found = problems(wrong, tmp_path)
    assert len(found) == 3
    assert all("selecter" in each for each in found), found


def check_restricted(pod: dict[str, Any]) -> None:
    """The rules of the Pod Security Standards' profile `restricted`, as of Kubernetes 1.37, for the first container."""
    of_pod, own = pod.get("securityContext", {}), pod["containers"][0]["securityContext"]
    both = {**of_pod, **own}
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "hostUsers"}
    assert both["runAsNonRoot"] is True
    assert both["runAsUser"] > 0
    assert both["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own.get("privileged", False) is False
    assert not both.keys() & {"sysctls", "seLinuxOptions", "appArmorProfile", "windowsOptions", "procMount"}
    assert not any("hostPort" in port for port in pod["containers"][0].get("ports", ()))
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"}
    for volume in pod["volumes"]:
        assert volume.keys() - {"name", "secret"} <= allowed, volume
    # No rule, but what the image is made for.
    assert own["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("name", ["defaults", "nothing", *(example.stem for example in EXAMPLES)])
def test_pods_fulfil_the_profile_restricted(rendered: dict[str, list[dict[str, Any]]], name: str) -> None:
    check_restricted(pod_spec(rendered[name]))


def test_settings_become_variables_that_the_server_reads(rendered: dict[str, list[dict[str, Any]]]) -> None:
    found = {each["name"]: each.get("value") for each in container(rendered["everything"])["env"]}
    assert found["MODELPORT_MAX_ADMITTED_BYTES"] == "2147483648"
    assert found["MODELPORT_STRICT_READINESS"] == "true"
    assert found["MODELPORT_TRACE_RATIO"] == "0.5"
    names = {name for name in found if name.startswith("MODELPORT_")} - {"MODELPORT_HOME"}
    assert names <= {f"MODELPORT_{name.upper()}" for name in Settings.model_fields}


def test_the_whole_shutdown_fits_the_grace_period_of_the_pod(rendered: dict[str, list[dict[str, Any]]]) -> None:
    for manifests in rendered.values():
        (deployment,) = of_kind(manifests, "Deployment")
        env = {each["name"]: each.get("value") for each in container(manifests)["env"]}
        hook = container(manifests).get("lifecycle", {"preStop": {"exec": {"command": ["sleep", "0"]}}})
        needed_s = int(hook["preStop"]["exec"]["command"][1]) + float(env["MODELPORT_GRACE_S"])
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= needed_s + 5
        assert float(env["MODELPORT_DRAIN_S"]) < float(env["MODELPORT_GRACE_S"])


def test_dashboards_and_rules_are_the_files_of_deploy(
    rendered: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    (dashboards,) = of_kind(rendered["keda"], "ConfigMap")
    files = {f"modelport-{file.name}": file for file in (ROOT / "deploy/grafana/dashboards").glob("*.json")}
    assert dashboards["data"] == {name: file.read_text() for name, file in files.items()}
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    (rules,) = of_kind(rendered["keda"], "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(rules["spec"]))
    subprocess.run([needed("promtool"), "check", "rules", str(file)], check=True, capture_output=True)


def test_queries_of_keda_are_valid_and_name_metrics_that_exist(
    rendered: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    (scaled,) = of_kind(rendered["keda"], "ScaledObject")
    queries = [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
    metrics = (ROOT / "docs/metrics.md").read_text()
    assert len(queries) == 2
    for query, name in zip(queries, ("modelport_requests_queued", "modelport_request_duration_seconds"), strict=True):
        assert f"`{name}`" in metrics
        assert name in query
        # The pods of this Deployment, and not those of one that is called models-modelport-b.
        (pattern,) = re.findall('pod=~"(.+?)"', query)
        assert re.fullmatch(pattern, "models-modelport-7d9f8c6b5-x2x4z")
        assert not re.fullmatch(pattern, "models-modelport-b-7d9f8c6b5-x2x4z")
        assert 'namespace="ml",pod=~"models-modelport-[a-z0-9]+(-[a-z0-9]+)?"' in query
    file = tmp_path / "rules.yml"
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "keda", "rules": rules}]}))
    subprocess.run([needed("promtool"), "check", "rules", str(file)], check=True, capture_output=True)


def test_the_package_contains_the_linked_files(tmp_path: Path) -> None:
    done = run_helm("package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    done = run_helm(
        "template", "x", str(package), "--set", "dashboards.enabled=true", "--set", "prometheusRule.enabled=true"
    )
    assert done.returncode == 0, done.stderr
    assert "modelport-overview.json" in done.stdout
    assert "modelport-objectives" in done.stdout


def test_releases_of_one_namespace_do_not_share_anything() -> None:
    names: list[tuple[str, str]] = []
    selectors = []
    for release in ("a", "b", "a.b", "modelport", "my-modelport", 53 * "x", 44 * "y" + "--------z"):
        manifests = template(release=release)
        names += [(each["kind"], each["metadata"]["name"]) for each in manifests]
        (deployment,) = of_kind(manifests, "Deployment")
        selectors.append(deployment["spec"]["selector"]["matchLabels"])
        for service in of_kind(manifests, "Service"):
            assert service["spec"]["selector"] == selectors[-1]
        assert deployment["spec"]["template"]["metadata"]["labels"].items() >= selectors[-1].items()
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for _, name in names)
    assert ("Deployment", "modelport") in names, "the name of the chart is not repeated"
    assert len({tuple(each.items()) for each in selectors}) == len(selectors)


def test_long_names_and_overrides() -> None:
    for arguments in (["--set", "fullnameOverride=" + 63 * "n"], ["--set", "nameOverride=" + 60 * "n"]):
        for each in template(*arguments, release=53 * "r"):
            assert len(each["metadata"]["name"]) <= 63
            assert all(len(value) <= 63 for value in each["metadata"]["labels"].values())


def test_probes_with_client_certificates_are_commands() -> None:
    found = container(template("--values", str(CHART / "examples/tls.yaml")))
    assert found["livenessProbe"]["exec"]["command"] == ["modelport", "health"]
    assert found["readinessProbe"]["exec"]["command"][:3] == ["modelport", "health", "--ready"]
    mounts = {mount["mountPath"] for mount in found["volumeMounts"]}
    for argument in found["readinessProbe"]["exec"]["command"]:
        assert not argument.startswith("/") or str(Path(argument).parent) in mounts
    for each in found["env"]:
        if each["value"].startswith("/"):
            assert str(Path(each["value"]).parent) in mounts


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"replicas": "3"}, "replicas"),
    ({"replicaCount": 3}, "replicaCount"),
    ({"ports": {"http": 0}}, "http"),
    ({"settings": {"http": "0.0.0.0:1"}}, "http"),
    ({"settings": {"Fronts": 2}}, "Fronts"),
    ({"settings": {"fronts": [2]}}, "fronts"),
    ({"fullnameOverride": 64 * "n"}, "fullnameOverride"),
    ({"fullnameOverride": "Capital"}, "fullnameOverride"),
    ({"image": {"repository": ""}}, "repository"),
    ({"repositories": ["/models", "s3://bucket"]}, "modelCache.enabled"),
    ({"repositories": "/models"}, "repositories"),
    ({"podLabels": {"a": 1}}, "podLabels"),
    ({"tls": {"clientCA": {"existingSecret": "a"}}}, "tls.existingSecret"),
    ({"tls": {"existingSecret": "a", "clientCA": {"existingSecret": "a"}}}, "tls.probeSecret"),
    ({"identities": {"existingSecret": "a", "config": "b"}}, "either existingSecret or config"),
    ({"autoscaling": {"hpa": {"enabled": True}, "keda": {"enabled": True}}}, "either hpa or keda"),
    ({"autoscaling": {"minReplicas": 9}}, "maxReplicas"),
    ({"shutdown": {"drainSeconds": 30}}, "drainSeconds"),
]


@pytest.mark.parametrize(("values", "named"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_values_that_would_fail_later_are_refused(values: dict[str, Any], named: str, tmp_path: Path) -> None:
    assert named in refusal(*with_values(tmp_path, values))


def test_empty_and_null_values(tmp_path: Path) -> None:
    empty = {"settings": None, "nodeSelector": None, "resources": {"limits": None}, "extraArgs": []}
    assert container(template(*with_values(tmp_path, empty)))["args"] == ["serve", "/models"]


def test_identities_of_values_are_kept_as_they_are(tmp_path: Path) -> None:
    config = '[identities."a"]\nkey_sha256 = ["{{ .Release }}"]\n# ü: \'x\'\n'
    manifests = template(*with_values(tmp_path, {"identities": {"config": config}}))
    (secret,) = of_kind(manifests, "Secret")
    assert secret["stringData"] == {"identities.toml": config}


def test_settings_of_an_upgrade_change_the_pod() -> None:
    """Files that are read once must replace the pods."""
    pods = [
        of_kind(template(*each), "Deployment")[0]["spec"]["template"] for each in ([], ["--set-string", "files.a=1"])
    ]
    assert pods[0] != pods[1]
    again = of_kind(template("--set-string", "files.a=2"), "Deployment")[0]["spec"]["template"]
    assert pods[1] != again


def test_the_manifests_of_kserve(tmp_path: Path) -> None:
    found = {}
    for file in sorted((ROOT / "deploy/kserve").glob("*.yaml")):
        found[file.stem] = list(yaml.safe_load_all(file.read_text()))
    assert problems([each for manifests in found.values() for each in manifests], tmp_path) == []
    (runtime,) = found["runtime"]
    check_restricted(runtime["spec"])
    formats = {(each["name"], each["version"]) for each in runtime["spec"]["supportedModelFormats"]}
    names = {name for name, _ in formats}
    # Every runtime is there under the name by which KServe's users know its format, and no format without a runtime.
    called = {"pytorch": "torchscript", "tensorflow": "savedmodel", "keras": "savedmodel", "deeplearning4j": "dl4j"}
    called |= {"openvino_ir": "openvino", "paddle": "openvino"}
    # The image lacks executorch.
    assert {called.get(name, name) for name in names} - {"mlflow", "triton", "modelport"} == set(discover()) - {
        "cntk_onnx",
        "executorch",
        "python",
    }
    services = found["inference-services"]
    used = [service["spec"]["predictor"]["model"] for service in services]
    for model in used:
        wanted = model["modelFormat"]
        assert wanted["name"] in names
        assert "version" not in wanted or (wanted["name"], wanted["version"]) in formats
        assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert len({model["modelFormat"]["name"] for model in used}) >= 6
    # KServe refuses a graph whose steps name nodes that do not exist.
    nodes = found["inference-graph"][0]["spec"]["nodes"]
    for node in nodes.values():
        assert all(step.get("nodeName", "root") in nodes for step in node["steps"])
        if node["routerType"] == "Splitter":
            assert sum(step["weight"] for step in node["steps"]) == 100


def test_an_unknown_field_of_kserve_is_found(tmp_path: Path) -> None:
    (runtime,) = yaml.safe_load_all((ROOT / "deploy/kserve/runtime.yaml").read_text())
    runtime["spec"]["containers"][0]["livenessProbe"]["httpGett"] = {}
    runtime["spec"]["supportedModelFormats"][0]["autoselect"] = True
    runtime["spec"]["supportedModelFormats"][1]["priority"] = "2"
    assert len(problems([runtime], tmp_path)) == 3


def test_notes() -> None:
    done = run_helm("install", "models", str(CHART), "--dry-run=client", "--namespace", "ml")
    assert "http://models-modelport.ml.svc:8000" in done.stdout, done.stderr
    assert "models.volume is empty" in done.stdout
    assert "No identities are configured" in done.stdout
