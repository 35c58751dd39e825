"""Writes what this runtime reads as SavedModels, from which TensorFlow's converters go on."""

import os
from typing import Any, Dict, Mapping

import tensorflow as tf

from runtimes.conversion import Refused, Step

from .graph_def import open_graph, read_graph_def
from .keras_files import read_keras
from .keras_model import Traced
from .tfjs import is_graph, read_model, trace_layers
from .tfjs_graph import ends_of, graph_def
from .tfjs_weights import read_weights


def keras_to_savedmodel(step: Step) -> None:
    _save(read_keras(step.source, backend=step.parameters.get("backend", "")), step)


def graphdef_to_savedmodel(step: Step) -> None:
    _save_graph(read_graph_def(step.source), {}, {}, step)


def tfjs_to_savedmodel(step: Step) -> None:
    model = read_model(step.source)
    weights = read_weights(os.path.dirname(step.source), model.get("weightsManifest", []))
    if is_graph(model):
        ends = ends_of(model)
        _save_graph(graph_def(model["modelTopology"], weights), ends.inputs, ends.outputs, step)
    else:
        _save(trace_layers(model, weights), step)


def _save_graph(definition: Any, inputs: Mapping[str, str], outputs: Mapping[str, str], step: Step) -> None:
    """Write a SavedModel like `_save`. Inputs that have default values keep them.

    inputs, outputs: name → tensor of the graph, for those of which the name is not that of the tensor.
    """
    v1 = tf.compat.v1
    fed = {spec.name: inputs.get(spec.name, spec.name) for spec in step.inputs}
    fetched = {spec.name: outputs.get(spec.name, spec.name) for spec in step.outputs}
    opened = open_graph(definition, 1, fed, fetched)
    with opened.session.graph.as_default():
        infos = [
            {"%s_%d" % (kind, n): v1.saved_model.build_tensor_info(tensors[spec.name]) for n, spec in enumerate(specs)}
            for kind, tensors, specs in (
                ("input", opened.inputs, step.inputs),
                ("output", opened.outputs, step.outputs),
            )
        ]
        builder = v1.saved_model.Builder(step.destination)
        signature = v1.saved_model.build_signature_def(*infos, method_name="tensorflow/serving/predict")
        tables = tf.group(*opened.fills)
        builder.add_meta_graph_and_variables(opened.session, ["serve"], {step.signature: signature}, main_op=tables)
    builder.save()


def _save(traced: Traced, step: Step) -> None:
    """Write a SavedModel with the inputs input_0, … and the outputs output_0, …: not every name is allowed in one.

    Raises Refused.
    """
    if traced.resets:
        raise Refused("the model has layers with stateful=True, whose state exports do not keep: save it without")
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
