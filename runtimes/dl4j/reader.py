"""From a DL4J file to an ONNX model's bytes. Nothing here runs it."""

from typing import Dict, Sequence, Tuple

from runtimes.contract import LoadError, TensorSpec

from .archive import read
from .choices import Choices
from .translate import translated

_MAX_LENGTH = 600


def model_bytes(path: str, declared: Sequence[TensorSpec], chosen: Choices) -> bytes:
    """The ONNX model of a DL4J file. Raises LoadError."""
    shapes: Dict[str, Tuple[int, ...]] = {spec.name: spec.shape for spec in declared if spec.shape}
    try:
        model = translated(read(path), shapes, chosen)
    except LoadError as error:
        # Names that the file holds can have any characters, and lists in it any length.
        raise LoadError("".join(each if each.isprintable() else "?" for each in str(error)[:_MAX_LENGTH])) from None
    except MemoryError:
        raise LoadError("the model does not fit in memory") from None
    try:
        return model.SerializeToString()
    except Exception as error:  # protobuf's, of several kinds, beyond its 2 GiB
        raise LoadError("the model is too large for one ONNX file (%s)" % type(error).__name__) from None
