"""From MXNet to ONNX, by MXNet's own converter."""

import glob
import os
import tempfile
from typing import Any, Dict

import mxnet as mx
import onnx

from runtimes.contract import DATATYPES
from runtimes.conversion import Refused, Step


def mxnet_to_onnx(step: Step) -> None:
    """Its input is called as in the symbol; outputs get the served names by their places."""
    prefix = step.source[: -len("-symbol.json")]
    parameters = max(glob.glob(glob.escape(prefix) + "-[0-9][0-9][0-9][0-9].params"))
    with tempfile.TemporaryDirectory(dir=os.path.dirname(step.destination)) as folder:
        shapes = [step.shapes[spec.name] for spec in step.inputs]
        dynamic = [tuple("N" if size < 0 else size for size in spec.shape or ()) for spec in step.inputs]
        types = [DATATYPES[spec.datatype].type for spec in step.inputs]
        path = mx.onnx.export_model(
            step.source, parameters, shapes, types, os.path.join(folder, "plain.onnx"),
            dynamic=True, dynamic_input_shapes=dynamic,
        )  # fmt: skip
        model = onnx.load(path)
    if len(model.graph.output) != len(step.outputs):
        raise Refused(
            "MXNet's converter gave %d outputs where %d are served" % (len(model.graph.output), len(step.outputs))
        )
    names = {value.name: spec.name for value, spec in zip(model.graph.output, step.outputs)}
    _rename(model.graph, names)
    order = {spec.name: place for place, spec in enumerate(step.inputs)}
    inputs = sorted([value for value in model.graph.input if value.name in order], key=lambda value: order[value.name])
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for value, spec in [*zip(model.graph.input, step.inputs), *zip(model.graph.output, step.outputs)]:
        for dim, size in zip(value.type.tensor_type.shape.dim, spec.shape or ()):
            if size < 0:
                dim.dim_param = "N"
    onnx.save(model, step.destination)


def _rename(graph: Any, names: Dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in graph.output:
        value.name = names.get(value.name, value.name)
