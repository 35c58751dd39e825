"""Translates a DL4J file to the bytes of an ONNX model, without running it."""

from typing import Dict, Sequence, Tuple

from runtimes.contract import LoadError, TensorSpec

from .archive import read
from .choices import Choices
from .translate import translate_archive

_MAX_MESSAGE_LENGTH = 600


def model_bytes(path: str, declared: Sequence[TensorSpec], choices: Choices) -> bytes:
    """Return the serialized ONNX model of a DL4J file. Raises LoadError.

    declared  the inputs in model.toml, with shapes that the file may not determine
    """
    shapes: Dict[str, Tuple[int, ...]] = {spec.name: spec.shape for spec in declared if spec.shape}
    try:
        model = translate_archive(read(path), shapes, choices)
    except LoadError as error:
        # The message can quote the file, where names can have any characters and lists any length.
        message = str(error)[:_MAX_MESSAGE_LENGTH]
        raise LoadError("".join(each if each.isprintable() else "?" for each in message)) from None
    except MemoryError:
        raise LoadError("the model does not fit in memory") from None
    try:
        return model.SerializeToString()
    except Exception as error:  # protobuf raises several types beyond its limit of 2 GiB
        raise LoadError("the model is too large for one ONNX file (%s)" % type(error).__name__) from None
