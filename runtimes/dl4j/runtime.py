"""Deeplearning4j models: ModelSerializer's zips, read by ourselves, translated to ONNX, run by ONNX Runtime.

Inputs and outputs of a ComputationGraph have its names; a MultiLayerNetwork's are "in" and "out". The first
dimension is the batch's, the layout DL4J's own: [N, channels, height, width], [N, features, time] unless the
network says another. What is not covered is a load error that names the layer.

    [parameters]
    allow_unverified = true  # serve layers, too, whose numbers nothing confirms (docs/dl4j.md)
    normalizer = false       # leave a normalizer that the file holds to the clients
    convolution_1d = "beta7" # or "M1": which version wrote the file, where it tells nothing and Convolution1DLayer
                             # is read differently by them
"""

from typing import Dict, Sequence, Tuple

from runtimes.contract import LoadError, LoadOptions, Model, TensorSpec
from runtimes.dl4j.archive import read
from runtimes.dl4j.choices import PARAMETERS, Choices, choices
from runtimes.dl4j.translate import translated
from runtimes.onnx.runtime import served

_LONGEST = 600


def load(options: LoadOptions) -> Model:
    onnx_model = model_bytes(options.artifact, options.inputs, choices(options.parameters))
    others = {name: value for name, value in options.parameters.items() if name not in PARAMETERS}
    return served(onnx_model, options._replace(parameters=others))


def model_bytes(path: str, declared: Sequence[TensorSpec], chosen: Choices) -> bytes:
    """The ONNX model of a DL4J file. Raises LoadError."""
    shapes: Dict[str, Tuple[int, ...]] = {spec.name: spec.shape for spec in declared if spec.shape}
    try:
        model = translated(read(path), shapes, chosen)
    except LoadError as error:
        # Names that the file holds can have any characters, and lists in it any length.
        raise LoadError("".join(each if each.isprintable() else "?" for each in str(error)[:_LONGEST])) from None
    except MemoryError:
        raise LoadError("the model does not fit in memory") from None
    try:
        return model.SerializeToString()
    except Exception as error:  # protobuf's, of several kinds, beyond its 2 GiB
        raise LoadError("the model is too large for one ONNX file (%s)" % type(error).__name__) from None
