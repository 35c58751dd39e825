"""Writes what this runtime reads as SavedModels, from which TensorFlow's converters go on."""

from typing import Any, Dict

import tensorflow as tf

from runtimes.conversion import Step

from .keras_files import read_keras
from .keras_model import Traced


def keras_to_savedmodel(step: Step) -> None:
    _save(read_keras(step.source), step)


def _save(traced: Traced, step: Step) -> None:
    """Write a SavedModel with the inputs input_0, … and the outputs output_0, …: not every name is allowed in one."""
    known = [traced.inputs[spec.name] for spec in step.inputs]
    specs = [tf.TensorSpec(spec.shape, spec.dtype, "input_%d" % n) for n, spec in enumerate(known)]

    @tf.function(autograph=False, input_signature=specs)
    def serve(*tensors: Any) -> Dict[str, Any]:
        given = dict(zip([spec.name for spec in step.inputs], tensors))
        results = traced.function(*(given[name] for name in traced.inputs))
        return {"output_%d" % n: results[spec.name] for n, spec in enumerate(step.outputs)}

    module = tf.Module()
    module.saved = list(traced.function.variables)  # a SavedModel only has variables that its module knows
    tf.saved_model.save(module, step.destination, signatures={step.signature: serve.get_concrete_function()})
