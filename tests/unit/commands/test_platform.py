"""What `modelport serve` serves in the containers of platforms, if nothing says so."""

from pathlib import Path

import pytest

from gateway.commands.platform import Found, find_models

ALL = {"http": "0.0.0.0:8080"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path


def find(root: Path, **environment: str) -> Found:
    return find_models(environment, root, root / "here")


def put(root: Path, *files: str) -> None:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_default_is_model_repo(root: Path) -> None:
    assert find(root) == Found("model_repo", "the default", {})


def test_sagemaker(root: Path) -> None:
    put(root, "opt/ml/model/model.onnx", "mnt/models/other.onnx")
    found = find(root)
    assert (found.location, found.conventions) == (str(root / "opt/ml/model"), ALL)
    assert "SageMaker" in found.reason
    (root / "here/model_repo").mkdir()  # as in the image, which has a volume there
    assert find(root).location == str(root / "opt/ml/model")
    put(root, "here/model_repo/m/1/model.onnx")
    assert find(root).location == "model_repo"


def test_sagemaker_with_several_models(root: Path) -> None:
    put(root, "opt/ml/model/model.onnx", "here/model_repo/m/1/model.onnx")
    for value in ("true", "True", "1"):
        found = find(root, SAGEMAKER_MULTI_MODEL=value)
        assert found.location == ""
        assert found.conventions == {**ALL, "sagemaker_multi_model": True, "allow_anonymous_admin": True}
    assert find(root, SAGEMAKER_MULTI_MODEL="false").location == "model_repo"


def test_kserve(root: Path) -> None:
    put(root, "mnt/models/model.onnx")
    found = find(root)
    assert found.location == str(root / "mnt/models")
    assert found.conventions == {"http": "0.0.0.0:8080", "grpc": "0.0.0.0:9000"}
    assert "KServe" in found.reason


def test_vertex_ai(root: Path) -> None:
    put(root, "here/model_repo/m/1/model.onnx", "opt/ml/model/model.onnx")
    for location in ("gs://bucket/model", "/models/mine"):
        found = find(root, AIP_MODE="PREDICTION", AIP_STORAGE_URI=location)
        assert (found.location, found.conventions) == (location, ALL)
    # The model is in the image.
    found = find(root, AIP_MODE="PREDICTION", AIP_STORAGE_URI="")
    assert (found.location, found.conventions) == ("model_repo", ALL)


def test_azure(root: Path) -> None:
    put(root, "azure/models/3/model.onnx", "mnt/models/model.onnx")
    found = find(root, AZUREML_MODEL_DIR=str(root / "azure/models/3"))
    assert (found.location, found.conventions) == (str(root / "azure/models/3"), ALL)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["model.onnx"], ""),
        (["net/model.onnx"], "net"),
        (["net/model.onnx", ".hidden/x"], "net"),
        (["export/net/saved_model.pb", "export/net/variables/variables.index"], "export/net"),
        (["net/MLmodel", "net/model.onnx"], "net"),
        # A repository with one model, and the folder of one model.
        (["net/1/model.onnx"], ""),
        (["1/model.onnx"], ""),
        (["0001/saved_model.pb"], ""),
        (["deep/net/1/model.onnx"], "deep"),
        # More than one thing.
        (["a/model.onnx", "b/model.onnx"], ""),
        (["a/model.onnx", "model.toml"], ""),
    ],
)
def test_a_folder_that_has_everything_is_entered(root: Path, files: list[str], expected: str) -> None:
    top = root / "mnt" / "models"
    put(top, *files)
    assert find(root).location == str(top / expected)


def test_an_empty_folder(root: Path) -> None:
    (root / "mnt/models").mkdir(parents=True)
    assert find(root).location == str(root / "mnt/models")
