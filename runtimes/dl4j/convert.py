"""Converts Deeplearning4j to ONNX, with the same translation that serves these files."""

from runtimes.conversion import Step

from .choices import choices
from .reader import model_bytes


def dl4j_to_onnx(step: Step) -> None:
    """Write the ONNX model. Names, order and layout are those of the served model."""
    data = model_bytes(step.source, step.inputs, choices(step.parameters))
    with open(step.destination, "wb") as file:
        file.write(data)
