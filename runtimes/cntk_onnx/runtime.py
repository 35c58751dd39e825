"""CNTK v2 models without CNTK: reads the files, translates them to ONNX and runs ONNX Runtime.

Names are CNTK's. A variable without a unique name is called by its uid. The first dimension is the batch, the second
is the time axis if the variable is a sequence. Sparse inputs are dense here. An output that needs a function that is
not covered is refused with its name; if that leaves no output, it is a load error.
"""

from typing import Collection, Dict, Sequence

import numpy as np
import onnxruntime as ort

from runtimes.contract import LoadError, LoadOptions, Model, numpy_dtype
from runtimes.needs import chosen, with_needs
from runtimes.onnx.direct import Run
from runtimes.onnx.runtime import TranslatedModel, run_of
from runtimes.onnx.runtime import before_forks as before_forks
from runtimes.onnx.session import new_session

from .translate import Translated, serialized, translate


def load(options: LoadOptions) -> Model:
    return served(read(options), options)


def served(found: Translated, options: LoadOptions) -> "CntkOnnxModel":
    data = serialized(found.model)
    session = new_session(data, options, ort.SessionOptions())
    return CntkOnnxModel(session, data, options, run_of(session), found)


class CntkOnnxModel(TranslatedModel):
    """Returns the outputs for which a request has the inputs."""

    def __init__(
        self, session: ort.InferenceSession, model: bytes, options: LoadOptions, run: Run, found: Translated
    ) -> None:
        super().__init__(session, model, options, run)
        own = self.signatures["default"]
        self.signatures["default"] = with_needs(own._replace(refused={**own.refused, **found.refused}), found.needs)

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        own = self.signatures["default"]
        if own.needs:
            outputs, needed = chosen(own, outputs, inputs)
            inputs = {**inputs, **self._unused(inputs, needed)}
        return super().infer(inputs, outputs, signature)

    def _unused(self, inputs: Dict[str, np.ndarray], needed: Collection[str]) -> Dict[str, np.ndarray]:
        """Return zeros for inputs that are left out: ONNX Runtime computes all outputs, and returns some."""
        sizes = dict.fromkeys(self._axes_of_symbol, 1)
        for symbol, places in self._axes_of_symbol.items():
            for name, axis in places:
                if name in inputs and axis < inputs[name].ndim:
                    sizes[symbol] = inputs[name].shape[axis]
        symbols = {place: symbol for symbol, places in self._axes_of_symbol.items() for place in places}
        return {
            name: np.zeros(
                [sizes[symbols[name, axis]] if size < 0 else size for axis, size in enumerate(spec.shape or ())],
                numpy_dtype(spec.datatype),
            )
            for name, spec in self._inputs.items()
            if name not in inputs and name not in needed
        }


def read(options: LoadOptions) -> Translated:
    """Return the translated artifact. Raises LoadError."""
    try:
        # The file is read, not mapped: overwriting it must not change the loaded model.
        with open(options.artifact, "rb") as file:
            data = file.read()
    except OSError as error:
        raise LoadError("the model's file cannot be read: %s" % (error.strerror or "it is not a file")) from None
    return translate(data)


def translated(options: LoadOptions) -> bytes:
    """Return the artifact as the bytes of an ONNX model. Raises LoadError."""
    return serialized(read(options).model)
