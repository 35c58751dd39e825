"""Artifacts and folders that are served without a repository: what is recognized, and under which name."""

from pathlib import Path

import pytest

from gateway.environments.runtime import discover
from gateway.repository.errors import RepositoryError
from gateway.repository.scan import scan

RUNTIMES = discover()


def put(root: Path, *files: str) -> Path:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return root


def served(path: Path, name: str = "") -> set[str]:
    return {f"{each.name}/{each.version}" for each in scan(path, RUNTIMES, name) if not each.problem}


FORMS = {
    "an artifact": (["model.onnx"], "model.onnx", "model"),
    "the folder of an artifact": (["model.onnx"], "", "models"),
    "with weights and notes": (["model.onnx", "model.onnx.data", "README.md"], "", "models"),
    "a SavedModel": (["saved_model.pb", "variables/variables.index"], "", "models"),
    "the folder of a SavedModel": (["net/saved_model.pb", "net/variables/variables.index"], "net", "net"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_single_artifact(tmp_path: Path, form: str) -> None:
    files, place, own = FORMS[form]
    path = put(tmp_path / "models", *files) / place
    assert served(path) == {f"{own}/1"}
    assert served(path, "mine") == {"mine/1"}


def test_a_models_folder(tmp_path: Path) -> None:
    path = put(tmp_path / "models", "1/model.onnx", "3/model.onnx")
    (path / "config.pbtxt").write_text('name: "resnet" platform: "onnxruntime_onnx" version_policy { all {} }')
    assert served(path) == {"models/1", "models/3"}
    assert served(path, "mine") == {"mine/1", "mine/3"}
    (path / "config.pbtxt").unlink()
    assert served(path, "mine") == {"mine/3"}


def test_as_tensorflow_serving_has_them(tmp_path: Path) -> None:
    path = put(tmp_path / "models", "0001/saved_model.pb", "0001/variables/variables.index")
    assert served(path, "mine") == {"mine/1"}


def test_a_repository_keeps_its_names(tmp_path: Path) -> None:
    path = put(tmp_path / "models", "a/1/model.onnx", "b/2/model.onnx")
    assert served(path) == served(path, "mine") == {"a/1", "b/2"}
    # The name of a model may be a number.
    path = put(tmp_path / "numbers", "7/1/model.onnx")
    assert served(path) == {"7/1"}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (["a.onnx", "b.onnx"], "it holds several artifacts: a.onnx, b.onnx; keep one"),
        (["weights.dat"], "no artifact that a runtime reads: it holds weights.dat"),
        ([], "it is empty"),
    ],
)
def test_what_is_not_one_model_is_a_sentence(tmp_path: Path, files: list[str], problem: str) -> None:
    (tmp_path / "models").mkdir()
    path = put(tmp_path / "models", *files)
    with pytest.raises(RepositoryError) as caught:
        scan(path, RUNTIMES, "mine")
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
    assert scan(path, RUNTIMES) == []  # a repository may be empty, or get its models later


def test_an_artifact_beside_folders_of_models(tmp_path: Path) -> None:
    path = put(tmp_path / "models", "a/1/model.onnx", "b.onnx")
    assert served(path) == {"a/1"}
    with pytest.raises(RepositoryError, match=r"has both an artifact \(b.onnx\) and folders of models \(a\)"):
        scan(path, RUNTIMES, "mine")
