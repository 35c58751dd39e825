"""The packages and the Python version that an MLflow model names.

MLflow writes python_env.yaml (the Python version), requirements.txt (the packages) and conda.yaml (both, once more).
Models of old versions have conda.yaml only.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from gateway.environments.errors import BrokenRequirements
from gateway.environments.model_packages import read_requirement_lines, read_requirements
from gateway.environments.yaml_file import BrokenYaml, read_yaml

MLMODEL = "MLmodel"
_PYTHON_ENV, _CONDA, _REQUIREMENTS = "python_env.yaml", "conda.yaml", "requirements.txt"


class MlflowPackages(NamedTuple):
    """python: a version such as "3.12"; "" for any."""

    requirements: tuple[str, ...]
    python: str


def read_mlflow_packages(folder: Path) -> MlflowPackages:
    """Raises BrokenRequirements."""
    try:
        python_env, conda = _read(folder / _PYTHON_ENV), _read(folder / _CONDA)
    except BrokenYaml as error:
        raise BrokenRequirements(str(error)) from None
    requirements = read_requirements(folder / _REQUIREMENTS)
    if not (folder / _REQUIREMENTS).is_file():
        packages = _conda_packages(conda)
        requirements = read_requirement_lines(
            {f"package {number} of its {_CONDA}": each for number, each in enumerate(packages, 1)}
        )
    version = python_env.get("python") or _conda_python(conda)
    return MlflowPackages(requirements, _minor(version) if version else "")


def _minor(version: object) -> str:
    """Return "3.11" for "3.11.7": which patch release the model was made with does not matter to its packages."""
    match = re.fullmatch(r"(3\.\d{1,2})(\.\S*)?", version) if isinstance(version, str) else None
    if match is None:
        raise BrokenRequirements(f"its {_PYTHON_ENV} or {_CONDA} names no version of Python 3, such as 3.12")
    return match[1]


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_yaml(file)
    except FileNotFoundError:
        return {}


def _conda_packages(conda: dict[str, Any]) -> list[str]:
    """Return what conda.yaml installs with pip. Packages of conda's own, besides python and pip, are not available."""
    found: list[str] = []
    for each in _dependencies(conda):
        if isinstance(each, str):
            name = each.split("=")[0].split("<")[0].split(">")[0].strip()
            if name not in ("python", "pip"):
                raise BrokenRequirements(
                    f"its {_CONDA} names the conda package '{name}', but only packages of pip are installed; name it "
                    "under pip, or add a requirements.txt"
                )
        elif isinstance(each, dict) and isinstance(packages := each.get("pip"), list):
            found += [package for package in packages if isinstance(package, str)]
    return found


def _conda_python(conda: dict[str, Any]) -> str:
    pinned = [each for each in _dependencies(conda) if isinstance(each, str) and each.startswith("python=")]
    return pinned[0].removeprefix("python").lstrip("=") if pinned else ""


def _dependencies(conda: dict[str, Any]) -> list[Any]:
    found = conda.get("dependencies")
    return found if isinstance(found, list) else []
