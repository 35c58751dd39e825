"""CNTK v2 models without CNTK: read by ourselves, translated to ONNX, run by ONNX Runtime.

Names are CNTK's own, or uids where a variable has none or shares it; the first dimension is the batch
axis, the second a sequence's where there is one. What is not covered is a load error that names it.
"""

from runtimes.contract import LoadError, LoadOptions, Model
from runtimes.onnx.runtime import served

from .translate import serialized, translate


def load(options: LoadOptions) -> Model:
    try:
        # Not mapped: a file that is overwritten changes nothing before its reload.
        with open(options.artifact, "rb") as file:
            data = file.read()
    except OSError as error:
        raise LoadError("the model's file cannot be read: %s" % (error.strerror or "it is no file")) from None
    return served(serialized(translate(data)), options)
