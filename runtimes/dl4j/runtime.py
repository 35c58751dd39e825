"""Deeplearning4j models: reads ModelSerializer's zip files, translates them to ONNX and runs ONNX Runtime.

Inputs and outputs have the names that the ComputationGraph gives them; those of a MultiLayerNetwork are "in" and
"out". The first dimension is the batch. The layout is DL4J's, [N, channels, height, width] and [N, features, time]
unless the network specifies another. A layer that is not covered is a load error with its name.

    [parameters]
    allow_unverified = true  # also serve layers whose numbers nothing confirms (docs/dl4j.md)
    normalizer = false       # do not apply the normalizer in the file; clients normalize
    convolution_1d = "beta7" # or "M1": the version that wrote the file, if it has a Convolution1DLayer, whose weights
                             # the two order differently, and does not record its version
"""

from typing import Tuple

from runtimes.checks import known_parameters
from runtimes.contract import LoadOptions, Model
from runtimes.onnx.runtime import PARAMETERS as ONNX_PARAMETERS
from runtimes.onnx.runtime import before_forks as before_forks
from runtimes.onnx.runtime import served

from .choices import PARAMETERS, choices
from .reader import model_bytes


def load(options: LoadOptions) -> Model:
    known_parameters(options.parameters, PARAMETERS + ONNX_PARAMETERS)
    model = served(*translated(options))
    model.options = options
    return model


def translated(options: LoadOptions) -> Tuple[bytes, LoadOptions]:
    """Return the artifact as the bytes of an ONNX model, and the options for running it. Raises LoadError."""
    onnx_model = model_bytes(options.artifact, options.inputs, choices(options.parameters))
    others = {name: value for name, value in options.parameters.items() if name not in PARAMETERS}
    return onnx_model, options._replace(parameters=others)
