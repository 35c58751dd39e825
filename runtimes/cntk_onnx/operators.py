"""Times the operators of the translated model, which have the names that the graph of a profile has."""

from typing import Dict

import numpy as np

from runtimes.contract import Model
from runtimes.onnx.operators import profile_of
from runtimes.onnx.runtime import OnnxModel
from runtimes.profiling import OperatorProfile

from .runtime import translated


def time_operators(model: Model, inputs: Dict[str, np.ndarray], signature: str) -> OperatorProfile:
    assert isinstance(model, OnnxModel)
    return profile_of(translated(model.options), model.options, model, inputs)
