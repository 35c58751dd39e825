"""MLflow's model folders: which runtime serves them, in which environment, and what their signature declares."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.table import Table, TableEntry, table_from_json, table_to_json
from gateway.domain.table_schema import TableSchema
from gateway.domain.types import ModelStatus
from gateway.environments.runtime import discover
from gateway.repository.model_config import ModelConfig
from gateway.repository.scan import scan

RUNTIMES = discover()
COLUMNS = [
    {"type": "long", "name": "age", "required": True},
    {"type": "double", "name": "height", "required": False},
]
TENSOR = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}
PYTHON_ENV = "python: 3.10\nbuild_dependencies:\n- pip\ndependencies:\n- -r requirements.txt\n"


def save(folder: Path, flavor: str, values: dict[str, str], **signature: Any) -> Path:
    """Write what mlflow writes besides the artifact."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "flavors:",
        "  python_function:",
        f"    loader_module: mlflow.{flavor}",
        f"  {flavor}:",
        *(f"    {key}: {value}" for key, value in (values or {"code": "null"}).items()),
        "mlflow_version: 3.17.2",
        "utc_time_created: '2026-11-30 06:39:29.048022'",
        "signature:",
        *(f"  {key}: '{json.dumps(value)}'" for key, value in signature.items()),
        "  params: null" if "params" not in signature else "",
    ]
    (folder / "MLmodel").write_text("\n".join(lines) + "\n")
    (folder / "requirements.txt").write_text("mlflow==3.17.2\nscikit-learn==1.8.0")
    (folder / "python_env.yaml").write_text(PYTHON_ENV)
    return folder


def archive(file: Path, entry: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(entry, "")


def only(repository: Path) -> ModelConfig:
    (config,) = scan(repository, RUNTIMES)
    return config


def test_a_model_without_artifact_of_ours_runs_with_mlflow_in_its_environment(tmp_path: Path) -> None:
    folder = save(tmp_path / "m" / "1", "sklearn", {"pickled_model": "model.pkl"}, inputs=COLUMNS, outputs=COLUMNS[:1])
    (folder / "model.pkl").touch()
    config = only(tmp_path)
    artifact = config.artifact
    assert artifact is not None
    assert (artifact.path.name, artifact.platform) == ("MLmodel", "mlflow")
    assert artifact.runtime.base == "python"
    assert artifact.runtime.model_code
    assert artifact.runtime.pythons == "==3.10.*"  # not 3.1, which the number would be
    assert artifact.runtime.requirements["cpu"] == ("numpy", "mlflow==3.17.2", "scikit-learn==1.8.0")
    # sklearn returns an array, although the signature has a name for it.
    assert artifact.table == TableSchema({"age": "long", "height": "double"}, (), False, True)
    assert config.toml.inputs == ()


def test_without_signature_an_answer_is_what_mlflow_returns(tmp_path: Path) -> None:
    save(tmp_path / "m" / "1", "sklearn", {})
    artifact = only(tmp_path).artifact
    assert artifact is not None
    assert artifact.table == TableSchema(unnamed=True)


def test_a_single_model_is_served_by_its_folder(tmp_path: Path) -> None:
    folder = save(tmp_path / "churn", "sklearn", {}, inputs=COLUMNS)
    config = only(folder)
    assert (config.name, config.version, config.readable) == ("churn", "1", (folder,))


def test_onnx(tmp_path: Path) -> None:
    folder = save(tmp_path / "m" / "1", "onnx", {"data": "model.onnx"}, inputs=COLUMNS, outputs=COLUMNS[:1])
    (folder / "model.onnx").touch()
    artifact = only(tmp_path).artifact
    assert artifact is not None
    assert (artifact.path.name, artifact.runtime.name) == ("model.onnx", "onnx")
    assert artifact.table == TableSchema({"age": "long", "height": "double"}, (), True, False)


def test_torchscript_gets_what_the_signature_declares(tmp_path: Path) -> None:
    folder = save(tmp_path / "m" / "1", "pytorch", {"model_data": "data"}, inputs=[TENSOR], outputs=[TENSOR])
    archive(folder / "data" / "model.pth", "model/code/m.py")
    config = only(tmp_path)
    assert config.artifact is not None
    assert config.artifact.runtime.name == "torchscript"
    assert [(each.name, each.datatype, each.shape) for each in config.toml.inputs] == [("INPUT__0", "FP32", (-1, 3))]
    assert [each.name for each in config.toml.outputs] == ["OUTPUT__0"]


def test_a_pickle_never_reaches_a_framework(tmp_path: Path) -> None:
    folder = save(tmp_path / "m" / "1", "pytorch", {"model_data": "data"}, inputs=[TENSOR], outputs=[TENSOR])
    archive(folder / "data" / "model.pth", "model/data.pkl")
    artifact = only(tmp_path).artifact
    assert artifact is not None
    assert (artifact.path.name, artifact.runtime.base) == ("MLmodel", "python")


def test_saved_models(tmp_path: Path) -> None:
    folder = save(tmp_path / "m" / "1", "tensorflow", {"saved_model_dir": "tf2model"}, inputs=[TENSOR])
    (folder / "tf2model").mkdir()
    (folder / "tf2model" / "saved_model.pb").touch()
    artifact = only(tmp_path).artifact
    assert artifact is not None
    assert (artifact.path.name, artifact.runtime.name) == ("tf2model", "savedmodel")


@pytest.mark.parametrize("path", ["../../../outside.onnx", "/outside.onnx", ".", "nothing.onnx"])
def test_paths_outside_of_the_folder_are_not_followed(tmp_path: Path, path: str) -> None:
    save(tmp_path / "r" / "m" / "1", "onnx", {"data": path})
    (tmp_path / "outside.onnx").touch()
    artifact = only(tmp_path / "r").artifact
    assert artifact is not None
    assert artifact.path.name == "MLmodel"


def test_a_link_to_the_folder_itself_ends(tmp_path: Path) -> None:
    folder = save(tmp_path / "m" / "1", "tensorflow", {"saved_model_dir": "again"})
    (folder / "again").symlink_to(folder)
    artifact = only(tmp_path).artifact
    assert artifact is not None
    assert artifact.path.name == "MLmodel"


def test_packages_of_conda_yaml(tmp_path: Path) -> None:
    folder = save(tmp_path / "m" / "1", "sklearn", {}, inputs=COLUMNS)
    (folder / "requirements.txt").unlink()
    (folder / "python_env.yaml").unlink()
    conda = "dependencies:\n- python=3.11.7\n- pip<=23\n- pip:\n  - mlflow==2.9\n"
    (folder / "conda.yaml").write_text(conda)
    artifact = only(tmp_path).artifact
    assert artifact is not None
    assert artifact.runtime.pythons == "==3.11.*"
    assert artifact.runtime.requirements["cpu"] == ("numpy", "mlflow==2.9")
    (folder / "conda.yaml").write_text(conda.replace("pip<=23", "cudatoolkit=11"))
    assert "conda package 'cudatoolkit'" in only(tmp_path).problem
    (folder / "conda.yaml").write_text(conda.replace("mlflow==2.9", "-e ."))
    assert "package 1 of its conda.yaml is an option of pip" in only(tmp_path).problem


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("MLmodel", "{", "its MLmodel is not YAML, line"),
        ("MLmodel", "a", "must have keys and values"),
        ("MLmodel", "a: 1", "has no flavors"),
        ("MLmodel", "[" * 50_000, "is not YAML"),
        ("MLmodel", "a: " + "x" * (1 << 20), "over the limit"),
        ("MLmodel", "a: \x00", "is not YAML"),
        ("MLmodel", "flavors: {sklearn: {}}\nsignature: {inputs: '['}", "the inputs of the signature in its MLmodel"),
        ("MLmodel", "flavors: {sklearn: {}}\nsignature: {outputs: '[1]'}", "the outputs of the signature"),
        (
            "MLmodel",
            """flavors: {sklearn: {}}\nsignature: {inputs: '[{"name": "\\ud800"}]'}""",
            "the inputs of the signature",
        ),
        ("python_env.yaml", "python: 2.7.1", "names no version of Python 3"),
        ("python_env.yaml", "python: [3]", "names no version of Python 3"),
        ("python_env.yaml", "-", "its python_env.yaml must have keys"),
        ("python_env.yaml", "python: 3.7.1", "names Python 3.7, but its runtime needs Python 3.8 or newer"),
        ("requirements.txt", "./code/own.whl", "line 1 of its requirements.txt does not name a package"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, file: str, text: str, says: str) -> None:
    folder = save(tmp_path / "m" / "1", "sklearn", {}, inputs=COLUMNS)
    (folder / file).write_text(text)
    problem = only(tmp_path).problem
    assert says in problem
    assert str(tmp_path) not in problem


def test_tags_make_no_objects(tmp_path: Path) -> None:
    folder = save(tmp_path / "m" / "1", "sklearn", {}, inputs=COLUMNS)
    with (folder / "MLmodel").open("a") as stream:
        stream.write("other: !!python/object/apply:os.getcwd []\n")
    assert only(tmp_path).problem == ""


def test_the_table_of_fronts_has_the_columns() -> None:
    status = ModelStatus("m", "1", "READY", table=TableSchema({"b": "long", "a": "binary"}, ("p",), True, False))
    text = json.dumps(table_to_json(Table((TableEntry(status),))))
    (entry,) = table_from_json(json.loads(text)).entries
    assert entry.status.table == status.table
    assert list(entry.status.table.columns) == ["b", "a"]
