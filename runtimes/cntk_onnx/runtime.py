"""CNTK v2 models without CNTK: reads the files, translates them to ONNX and runs ONNX Runtime.

Names are CNTK's. A variable without a unique name is called by its uid. The first dimension is the batch, the second
is the time axis if the variable is a sequence. A function that is not covered is a load error with its name.
"""

from runtimes.contract import LoadError, LoadOptions, Model
from runtimes.onnx.runtime import before_forks as before_forks
from runtimes.onnx.runtime import served

from .translate import serialized, translate


def load(options: LoadOptions) -> Model:
    return served(translated(options), options)


def translated(options: LoadOptions) -> bytes:
    """Return the artifact as the bytes of an ONNX model. Raises LoadError."""
    try:
        # The file is read, not mapped: overwriting it must not change the loaded model.
        with open(options.artifact, "rb") as file:
            data = file.read()
    except OSError as error:
        raise LoadError("the model's file cannot be read: %s" % (error.strerror or "it is not a file")) from None
    return serialized(translate(data))
