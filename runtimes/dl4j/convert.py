"""From Deeplearning4j to ONNX, by the translation that serves these files too."""

from runtimes.conversion import Step

from .choices import choices
from .reader import model_bytes


def dl4j_to_onnx(step: Step) -> None:
    """Names, order and layout are the served ones."""
    data = model_bytes(step.source, step.inputs, choices(step.parameters))
    with open(step.destination, "wb") as file:
        file.write(data)
