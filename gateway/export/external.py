"""The files beside an ONNX file in which it keeps weights, as an export finds them."""

from pathlib import Path

from gateway.export.jobs import RouteFailed
from runtimes import external_data
from runtimes.contract import LoadError


def weight_files(path: Path) -> list[str]:
    """Their names as the ONNX file has them, with '/', relative to its folder. Raises RouteFailed, OSError."""
    try:
        return external_data.weight_files(str(path))
    except LoadError as error:
        raise RouteFailed(str(error)) from None
