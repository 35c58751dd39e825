"""The folder of an export, and the model in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.export.external import weight_files
from gateway.export.source import Source
from gateway.repository.artifact_files import artifact_files


class ExportFolder(NamedTuple):
    """model: the artifact's file in the folder; for TensorFlow.js, the folder itself. model_format: as in routes.py."""

    path: Path
    model: Path
    model_format: str
    source: Source

    @property
    def model_name(self) -> str:
        """The file to load, relative to the folder."""
        return "model.json" if self.model == self.path else self.model.relative_to(self.path).as_posix()

    def weights(self) -> Sequence[str]:
        """Return the names of further files that hold weights, relative to the folder. Raises RouteFailed."""
        return weight_files(self.model) if self.model_format == "onnx" else ()


def model_files(model_format: str, artifact: Path) -> list[Path]:
    """Return everything that a model consists of: its file or folder, and further files. Raises RouteFailed."""
    if model_format == "onnx":
        return [artifact, *(artifact.parent / name for name in weight_files(artifact))]
    return [artifact] if model_format == "tfjs" else artifact_files(artifact)
