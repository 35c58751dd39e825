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

from runtimes.checks import known_parameters
from runtimes.contract import LoadOptions, Model
from runtimes.onnx.runtime import PARAMETERS as OF_ONNX_RUNTIME
from runtimes.onnx.runtime import served

from .choices import PARAMETERS, choices
from .reader import model_bytes


def load(options: LoadOptions) -> Model:
    known_parameters(options.parameters, PARAMETERS + OF_ONNX_RUNTIME)
    onnx_model = model_bytes(options.artifact, options.inputs, choices(options.parameters))
    others = {name: value for name, value in options.parameters.items() if name not in PARAMETERS}
    return served(onnx_model, options._replace(parameters=others))
