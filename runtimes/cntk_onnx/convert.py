"""Converts CNTK to ONNX, with the same translation that serves these files."""

from runtimes.conversion import Step

from .translate import serialized, translate


def cntk_to_onnx(step: Step) -> None:
    """Write the ONNX model. Names and order are CNTK's, as in the served model."""
    with open(step.source, "rb") as file:
        model = translate(file.read()).model
    with open(step.destination, "wb") as file:
        file.write(serialized(model))
