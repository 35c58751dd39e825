"""Where each value of a version's configuration comes from."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config import Settings
from gateway.domain.table import WorkerAddress
from gateway.environments.runtime import discover
from gateway.lifecycle.model_version import ModelVersion
from gateway.lifecycle.pipeline_version import PipelineVersion
from gateway.lifecycle.policy import VersionKey
from gateway.repository.model_config import ModelConfig
from gateway.repository.models_config import ModelsConfig
from gateway.repository.scan import scan
from gateway.supervisor.explanation import explain
from runtimes.contract import Signature, TensorSpec
from runtimes.control import Ready

RUNTIMES = discover()
ON = (8, "", "batching up to 8 rows")


class Worker:
    address = WorkerAddress(1, "socket", "status", 2)
    launch = None

    def __init__(self, ready: Ready, learned: dict[str, Signature]) -> None:
        self.ready, self.learned = ready, learned


def configs(folder: Path, **files: str) -> list[ModelConfig]:
    """A repository with one ONNX model; a file's name has _ for its dot."""
    version = folder / "models" / "m" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_text("an artifact")
    for name, text in files.items():
        (folder / "models" / "m" / name.replace("_", ".")).write_text(text)
    return scan(folder / "models", RUNTIMES)


def explained(
    config: ModelConfig,
    shape: tuple[int, ...] | None = (-1, 4),
    batching: tuple[int, str, str] = ON,
    learned: tuple[int, ...] | None = None,
    **settings: Any,
) -> dict[str, tuple[Any, str]]:
    """The values and sources by key, once a worker has loaded a model with the input x and the output y."""
    assert not config.problem
    version = ModelVersion(VersionKey("m", "1", "print"), config, lambda: None)
    signature = Signature((TensorSpec("x", "FP32", shape),), (TensorSpec("y", "", None),))
    found = (
        {}
        if learned is None
        else {"d": Signature((TensorSpec("x", "FP32", learned),), (TensorSpec("y", "FP16", learned),))}
    )
    workers: Any = [Worker(Ready({"d": signature}, batching[0], 2, *batching[1:]), found)]
    version.workers = workers
    version._loaded = workers[0].ready
    version._learned = found
    values = explain(version, version.entry().status, Settings(**settings))
    assert not any("/" in str(value) for value in values), "a path of this machine"
    return {value["key"]: (value["value"], value["source"]) for value in values}


def test_without_a_file_values_are_defaults_or_come_from_the_artifact(tmp_path: Path) -> None:
    found = explained(*configs(tmp_path))
    assert found["artifact"] == ("model.onnx", "artifact")
    assert found["runtime"] == ("onnx", "artifact")
    assert found["inputs.x.shape"] == ([-1, 4], "artifact")
    assert found["max_batch_size"] == (8, "run time")
    assert found["instances"] == (1, "default")
    assert found["audit_share"] == (Settings().audit_share, "default")
    assert found["max_json_bytes"] == (Settings().max_json_bytes, "default")
    assert "preprocess.size" not in found


def test_what_model_toml_sets(tmp_path: Path) -> None:
    toml = """
        runtime = "onnx"
        instances = 1
        max_batch_size = 8
        audit_share = 0.5
        memory_limit = "1MiB"
        parameters = { table = "/secret/folder/table.txt" }
        [[inputs]]
        name = "x"
        shape = [-1, 4]
        [preprocess]
        size = [2, 2]
        layout = "flat"
    """
    found = explained(*configs(tmp_path, model_toml=toml), audit_share=0.1)
    declared = ("runtime", "instances", "max_batch_size", "audit_share", "memory_limit", "inputs.x.shape")
    assert {found[key][1] for key in (*declared, "preprocess.size", "preprocess.layout")} == {"model.toml"}
    assert found["inputs.x.datatype"] == ("FP32", "artifact")
    assert found["preprocess.resize"] == ("stretch", "default")
    assert found["memory_limit"][0] == 1 << 20
    assert found["parameters"] == ({"table": "table.txt"}, "model.toml")


def test_what_config_pbtxt_sets(tmp_path: Path) -> None:
    pbtxt = """
        max_batch_size: 4
        output [ { name: "y" data_type: TYPE_FP16 } ]
        dynamic_batching { max_queue_delay_microseconds: 1500 }
    """
    found = explained(*configs(tmp_path, config_pbtxt=pbtxt), batching=(4, "", "batching up to 4 rows"))
    assert found["max_batch_size"] == (4, "config.pbtxt")
    assert found["queue_delay_ms"] == (1.5, "config.pbtxt")
    assert found["outputs.y.datatype"][1] == "config.pbtxt"
    # Absent from the file. The default is that of Triton, which differs from that of model.toml.
    assert found["device"] == ("auto", "default")
    assert found["version_policy"] == ({"latest": 1}, "default")
    assert found["runtime"] == ("onnx", "artifact")


def test_what_models_config_sets(tmp_path: Path) -> None:
    configs(tmp_path, model_toml="instances = 2")
    file = tmp_path / "models.config"
    policy = "model_version_policy { all {} } version_labels { key: 'stable' value: 1 }"
    file.write_text(f"model_config_list {{ config {{ name: 'm' base_path: '{tmp_path}/models/m' {policy} }} }}")
    (config,) = ModelsConfig()(file, RUNTIMES)
    found = explained(config)
    assert found["version_policy"] == ({"all": True}, "models.config")
    assert found["version_labels"] == ({"stable": 1}, "models.config")
    assert found["instances"] == (2, "model.toml")


def test_what_settings_of_the_server_set(tmp_path: Path) -> None:
    found = explained(*configs(tmp_path), audit_share=0.2, request_timeout_s=3.0)
    assert found["audit_share"] == (0.2, "setting")
    assert found["request_timeout_s"] == (3.0, "setting")


def test_what_only_a_request_reveals(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    before = explained(config, shape=None)
    assert before["inputs.x.shape"] == (None, "artifact")
    assert before["outputs.y.datatype"] == (None, "artifact")
    after = explained(config, shape=None, learned=(2, 4))
    assert after["inputs.x.shape"] == ([2, 4], "run time")
    assert after["inputs.x.datatype"] == ("FP32", "artifact")
    assert after["outputs.y.datatype"] == ("FP16", "run time")


@pytest.mark.parametrize(
    ("toml", "reason", "source"),
    [
        ("", "graph", "artifact"),
        ("", "shape", "artifact"),
        ("", "trial", "run time"),
        ("max_batch_size = 8", "audit", "run time"),
        ("max_batch_size = 0", "declared", "model.toml"),
        ("stateful = true", "state", "model.toml"),
        ("", "state", "artifact"),
    ],
)
def test_what_switched_batching_off(tmp_path: Path, toml: str, reason: str, source: str) -> None:
    found = explained(*configs(tmp_path, model_toml=toml), batching=(0, reason, "batching is off: a reason"))
    assert found["max_batch_size"] == (0, source)


def test_before_it_is_loaded(tmp_path: Path) -> None:
    (config,) = configs(tmp_path, model_toml='[[inputs]]\nname = "x"\ndatatype = "FP32"')
    version = ModelVersion(VersionKey("m", "1", "print"), config, lambda: None)
    values = {value["key"]: value for value in explain(version, version.entry().status, Settings())}
    assert values["inputs.x.datatype"]["source"] == "model.toml"
    assert values["max_batch_size"]["value"] is None


def test_a_pipeline_has_its_steps_and_nothing_of_workers(tmp_path: Path) -> None:
    text = '[[steps]]\nmodel = "a"\nversion = 2\ninputs = { x = "in" }\noutputs = { y = "out" }\nwhen = "not flag"'
    (config,) = configs(tmp_path, model_toml=text)
    version = PipelineVersion(VersionKey("m", "1", "print"), config, lambda: None)
    values = {each["key"]: each for each in explain(version, version.entry().status, Settings())}
    assert (values["steps.1"]["value"], values["steps.1"]["source"]) == (
        "a version 2: x = in → y = out, when not flag",
        "model.toml",
    )
    assert not {"instances", "device", "threads", "queue_delay_ms", "parameters"} & values.keys()
