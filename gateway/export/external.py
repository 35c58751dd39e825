"""The files next to an ONNX file that hold its weights, for exports."""

from pathlib import Path

from gateway.export.jobs import RouteFailed
from runtimes import external_data
from runtimes.contract import LoadError


def weight_files(path: Path) -> list[str]:
    """Return their names as in the ONNX file: with '/', relative to its folder. Raises RouteFailed, OSError."""
    try:
        return external_data.weight_files(str(path))
    except LoadError as error:
        raise RouteFailed(str(error)) from None
