"""Finds the models that a platform has put into its container, for `modelport serve` without a repository.

    SAGEMAKER_MULTI_MODEL  SageMaker's endpoints with several models: none at the start, see sagemaker_multi_model
    AIP_STORAGE_URI        Vertex AI
    AZUREML_MODEL_DIR      Azure Machine Learning
    model_repo             modelport's own, unless it is empty
    /opt/ml/model          SageMaker
    /mnt/models            KServe

The first of them that is there is served. Platforms also expect a server at ports that they do not always name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.contents.names import is_foreign

REPOSITORY = Path("model_repo")
SAGEMAKER_FOLDER = Path("/opt/ml/model")
KSERVE_FOLDER = Path("/mnt/models")
_HTTP = {"http": "0.0.0.0:8080"}
_KSERVE_PORTS = {**_HTTP, "grpc": "0.0.0.0:9000"}
# SageMaker sends no credentials, and nothing else reaches its containers: clients of an endpoint only get to invoke.
_MULTI_MODEL = {**_HTTP, "sagemaker_multi_model": True, "allow_anonymous_admin": True}


class Found(NamedTuple):
    """Where the models are.

    location     a path or a URL; "" if there are none at the start
    reason       why that was chosen
    conventions  settings that the platform expects if nothing else sets them
    """

    location: str
    reason: str
    conventions: Mapping[str, Any] = {}


def find_models(environment: Mapping[str, str], root: Path = Path("/"), folder: Path = Path()) -> Found:
    """Return what to serve if nothing says so.

    root    below which the platforms' folders are
    folder  the one that `modelport serve` was started in
    """
    is_vertex = any(name in environment for name in ("AIP_MODE", "AIP_STORAGE_URI", "AIP_HTTP_PORT"))
    if environment.get("SAGEMAKER_MULTI_MODEL", "").lower() in ("true", "1"):
        return Found("", "SAGEMAKER_MULTI_MODEL: SageMaker loads the models", _MULTI_MODEL)
    if uri := environment.get("AIP_STORAGE_URI"):
        return Found(_within(uri), "AIP_STORAGE_URI, from Vertex AI", _HTTP)
    if path := environment.get("AZUREML_MODEL_DIR"):
        return Found(_within(path), "AZUREML_MODEL_DIR, from Azure Machine Learning", _HTTP)
    conventions = _HTTP if is_vertex else {}
    sagemaker, kserve = (root / path.relative_to("/") for path in (SAGEMAKER_FOLDER, KSERVE_FOLDER))
    if not _has_entries(folder / REPOSITORY):
        if sagemaker.is_dir():
            return Found(_within(str(sagemaker)), "SageMaker puts its model there", _HTTP)
        if kserve.is_dir():
            return Found(_within(str(kserve)), "KServe puts its model there", _KSERVE_PORTS)
    return Found(str(REPOSITORY), "the default", conventions)


def _within(location: str) -> str:
    """Return the folder that has the models: archives and uploads often have all in one folder.

    That is one whose name is not a version, and which has no versions: such a folder is a model of a repository.
    """
    path = Path(location)
    if "://" in location or not path.is_dir():
        return location
    entries = [entry for entry in path.iterdir() if not is_foreign(entry.name)]
    if len(entries) != 1 or not entries[0].is_dir() or _is_number(entries[0]):
        return location
    if any(_is_number(entry) for entry in entries[0].iterdir() if entry.is_dir()):
        return location
    return _within(str(entries[0]))


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _is_number(path: Path) -> bool:
    return path.name.isascii() and path.name.isdigit()
