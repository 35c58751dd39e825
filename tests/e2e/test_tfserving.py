"""TensorFlow Serving's API: its own client and plain HTTP, with models.config, on models of several runtimes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtimes.contract import DATATYPES
from tests.e2e.test_zoo import Case, copy_of
from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_copy, add_fake

STABLE_AND_CANARY = 'version_labels { key: "stable" value: 123 } version_labels { key: "canary" value: 124 }'


def write_config(file: Path, *configs: str) -> Path:
    """Write models.config, and replace the old file with one rename, as a careful user would."""
    partial = file.with_suffix(".partial")
    partial.write_text("model_config_list {\n" + "".join(f"  config {{ {config} }}\n" for config in configs) + "}\n")
    return partial.rename(file)


def test_its_own_client_and_curl(
    zoo: Path, gateway: Callable[..., Gateway], runtime_environment: Callable[[str], Any], tmp_path: Path
) -> None:
    # tensorflow-serving-api requires tensorflow, which is three times as large as tensorflow-cpu.
    python = client_python(
        "tfserving", "tensorflow-cpu==2.21.0", "grpcio==1.85.1", "protobuf==7.36.2",
        alone=("tensorflow-serving-api==2.21.0",),
    )  # fmt: skip
    runtime_environment("savedmodel")
    runtime_environment("onnx")
    for version in ("", "_v124"):
        copy_of(zoo, Case("savedmodel", f"saved_model_half_plus_two_2_versions{version}"), tmp_path / "far", "saved")
    add_copy(tmp_path / "models", "sigmoid", [zoo / "onnx" / "sigmoid" / "sigmoid.onnx"])
    described = [{"name": datatype, "datatype": datatype, "shape": [-1, 2]} for datatype in DATATYPES]
    add_fake(
        tmp_path / "models", "every",
        inputs=described, outputs=[{**each, "name": f"{each['name']}_out"} for each in described],
    )  # fmt: skip
    (tmp_path / "models" / "broken" / "1").mkdir(parents=True)
    file = write_config(
        tmp_path / "models.config",
        f'name: "half_plus_two" base_path: "{tmp_path}/far/saved" model_platform: "tensorflow" '
        f"model_version_policy {{ all {{}} }} {STABLE_AND_CANARY}",
        'name: "sigmoid" base_path: "models/sigmoid"',
        'name: "every" base_path: "models/every"',
        'name: "broken" base_path: "models/broken"',
    )
    running = gateway(None, "--models-config", str(file)).wait_ready()
    assert "all of it worked" in run_client(python, Path(__file__).parent / "tfserving_script.py", running.grpc)
    check_rest(running)


def check_rest(running: Gateway) -> None:
    model = "/v1/models/half_plus_two"
    for path, body, answer in (
        (":predict", {"instances": [[1.0], [2.0], [5.0]]}, {"predictions": [[2.5], [3.0], [4.5]]}),
        ("/versions/123:predict", {"inputs": {"x": [[1.0]]}}, {"outputs": [[2.5]]}),
        ("/labels/stable:predict", {"inputs": [[1.0]]}, {"outputs": [[2.5]]}),
        (":regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": 2.0}]}, {"results": [2.5, 3]}),
        (":classify", {"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}]}, {"results": [[["", 2.5]]]}),
    ):
        reply = running.post(model + path, body)
        assert (reply.status, reply.json()) == (200, answer), path
    assert running.post("/v1/models/every:predict", {"instances": []}).status == 400
    reply = running.post(model + ":regress", {"signature_name": "regress_x2_to_y3", "examples": [{"x": 1.0}]})
    assert (reply.status, "does not accept serialized tf.Example" in reply.json()["error"]) == (400, True)
    # The model's error about examples without its feature is also the client's fault.
    reply = running.post(model + ":regress", {"signature_name": "regress_x_to_y", "examples": [{"x": "text"}]})
    assert reply.status == 400, reply
    states = running.get(model).json()["model_version_status"]
    assert [(each["version"], each["state"]) for each in states] == [("124", "AVAILABLE"), ("123", "AVAILABLE")]
    assert running.get(model + "/labels/stable").json()["model_version_status"][0]["version"] == "123"
    (broken,) = running.get("/v1/models/broken").json()["model_version_status"]
    assert (broken["state"], broken["status"]["error_code"]) == ("END", "UNAVAILABLE")
    metadata = running.get(model + "/versions/123/metadata").json()
    assert metadata["model_spec"]["version"] == "123"
    assert metadata["metadata"]["signature_def"]["signature_def"]["classify_x_to_y"]["inputs"]["inputs"]["dtype"] == (
        "DT_STRING"
    )


def test_models_config_is_followed(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    for version in ("1", "2"):
        add_fake(tmp_path / "here", "a", version)
    add_fake(tmp_path / "there", "b")
    label = 'version_labels { key: "stable" value: %d }'
    a = f'name: "first" base_path: "{tmp_path}/here/a" model_version_policy {{ all {{}} }} '
    file = write_config(tmp_path / "models.config", a + label % 1)
    running = gateway(None, "--models-config", str(file)).wait_ready()

    def version_of(model: str) -> str:
        reply = running.post(f"/predict/{model}", {"inputs": [[1, 2, 3, 4]]})
        return str(reply.json().get("version", reply.status))

    def stable() -> Any:
        return running.get("/v1/models/first/labels/stable").json().get("model_version_status", [{}])[0].get("version")

    assert (stable(), version_of("first"), version_of("second")) == ("1", "2", "404")
    write_config(file, a + label % 2, f'name: "second" base_path: "{tmp_path}/there/b" logging_config {{ }}')
    while (stable(), version_of("second")) != ("2", "1"):
        pass  # each turn is two requests: the gateway checks the file soon
    running.wait_for(r"models\.config: there is no field logging_config; it is ignored")
    since = len(running.log)
    file.write_text("model_config_list {")
    running.wait_for(r"models\.config is not a models\.config in protobuf's text format", since)
    assert (version_of("first"), version_of("second")) == ("2", "1"), "what runs goes on running"
    write_config(file, f'name: "second" base_path: "{tmp_path}/there/b"')
    while version_of("first") != "404":
        pass
    assert version_of("second") == "1"


def test_a_label_that_names_nothing_is_told(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    add_fake(tmp_path, "m")
    file = write_config(
        tmp_path / "models.config", 'name: "m" base_path: "m" version_labels { key: "stable" value: 9 }'
    )
    running = gateway(None, MODELPORT_MODELS_CONFIG=str(file)).wait_ready()
    running.wait_for(r"models\.config: label 'stable' of model 'm' names version 9, which is not served")
    reply = running.post("/v1/models/m/labels/stable:predict", {"instances": [[1, 2, 3, 4]]})
    assert reply.status == 404
    assert running.post("/v1/models/m:predict", {"instances": [[1, 2, 3, 4]]}).json() == {"predictions": [[2, 4, 6, 8]]}
