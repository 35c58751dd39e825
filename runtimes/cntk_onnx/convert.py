"""From CNTK to ONNX, by the translation that serves these files too."""

from runtimes.conversion import Step

from .translate import serialized, translate


def cntk_to_onnx(step: Step) -> None:
    """Names and order are the served ones: both are CNTK's own."""
    with open(step.source, "rb") as file:
        model = translate(file.read())
    with open(step.destination, "wb") as file:
        file.write(serialized(model))
