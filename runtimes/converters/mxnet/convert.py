"""Converts MXNet to ONNX with MXNet's own converter."""

import json
import os
import shutil
import tempfile
from typing import Any, Dict

import mxnet as mx
import numpy as np
import onnx
from onnx import numpy_helper

from runtimes.contract import numpy_dtype
from runtimes.conversion import Refused, Step, refuse_shared
from runtimes.mxnet.files import has_numpy_shapes, newest_parameters

_OPSET = 13
_ONE_DIMENSIONAL = ("Convolution", "Pooling")


def mxnet_to_onnx(step: Step) -> None:
    """Write the ONNX model. Inputs keep the symbol's names; outputs are matched to the served names by position."""
    parameters = newest_parameters(step.source[: -len("-symbol.json")])
    mx.util.set_np_shape(has_numpy_shapes(step.source))
    with tempfile.TemporaryDirectory(dir=os.path.dirname(step.destination)) as folder:
        plain = os.path.join(folder, "plain-symbol.json")
        _without_losses(mx.sym.load(step.source)).save(plain)
        # The converter requires both files in one folder.
        if parameters:
            shutil.copyfile(parameters, os.path.join(folder, "plain-0000.params"))
        else:
            mx.nd.save(os.path.join(folder, "plain-0000.params"), {"arg:unused": mx.nd.ones((1,))})
        shapes = [step.shapes[spec.name] for spec in step.inputs]
        dynamic = [tuple("N" if size < 0 else size for size in spec.shape or ()) for spec in step.inputs]
        types = [numpy_dtype(spec.datatype).type for spec in step.inputs]
        # The converter writes operators of this opset even if asked for a newer one, whose attributes differ.
        onnx.defs.onnx_opset_version = lambda: _OPSET
        onnx.checker.DEFAULT_CONTEXT.opset_imports = {"": _OPSET}
        _accept_one_dimension()
        path = mx.onnx.export_model(
            plain, os.path.join(folder, "plain-0000.params"), shapes, types, os.path.join(folder, "plain.onnx"),
            dynamic=True, dynamic_input_shapes=dynamic,
        )  # fmt: skip
        model = onnx.load(path)
    if len(model.graph.output) != len(step.outputs):
        raise Refused(
            "MXNet's converter wrote %d outputs, but %d are served" % (len(model.graph.output), len(step.outputs))
        )
    _clamp_embedding_ids(model.graph)
    names = {value.name: spec.name for value, spec in zip(model.graph.output, step.outputs)}
    refuse_shared([spec.name for spec in step.inputs], [new for old, new in names.items() if old != new])
    _rename(model.graph, names)
    order = {spec.name: index for index, spec in enumerate(step.inputs)}
    inputs = sorted([value for value in model.graph.input if value.name in order], key=lambda value: order[value.name])
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for value, spec in [*zip(model.graph.input, step.inputs), *zip(model.graph.output, step.outputs)]:
        for dim, size in zip(value.type.tensor_type.shape.dim, spec.shape or ()):
            if size < 0:
                dim.dim_param = "N"
    onnx.save(model, step.destination)


def _accept_one_dimension() -> None:
    """Make MXNet's converters of convolution and pooling accept the layout NCW, which they refuse but convert right."""
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph

    def accepting(convert: Any) -> Any:
        def converted(node: Any, **options: Any) -> Any:
            attributes = dict(node.get("attrs", {}))
            if attributes.get("layout") == "NCW":
                del attributes["layout"]
            return convert(dict(node, attrs=attributes), **options)

        return converted

    for registered in MXNetGraph.registry_.values():
        registered.update({name: accepting(registered[name]) for name in _ONE_DIMENSIONAL if name in registered})


def _clamp_embedding_ids(graph: Any) -> None:
    """Clamp ids to the table, as MXNet's Embedding does. ONNX counts negative ids from the end and refuses others."""
    tables = {each.name: each.dims[0] for each in graph.initializer if len(each.dims)}
    nodes = []
    for node in graph.node:
        if node.op_type == "Gather" and node.input[1].endswith("_indices_casted") and node.input[0] in tables:
            ids, ends = node.input[1], {"Max": 0, "Min": tables[node.input[0]] - 1}
            for operator, end in ends.items():
                limit, limited = ("%s_%s%s" % (node.output[0], operator, part) for part in ("_of", ""))
                graph.initializer.append(numpy_helper.from_array(np.array(end, np.int64), limit))
                nodes.append(onnx.helper.make_node(operator, [ids, limit], [limited]))
                ids = limited
            node.input[1] = ids
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _rename(graph: Any, names: Dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in graph.output:
        value.name = names.get(value.name, value.name)


def _without_losses(symbol: Any) -> Any:
    """Replace loss outputs by what they compute in serving. The converter fails on their labels."""
    graph = json.loads(symbol.tojson())
    if any(node.get("subgraphs") for node in graph["nodes"]):
        raise Refused("MXNet's converter does not support control flow (foreach, while_loop, cond)")
    nodes, internals = graph["nodes"], symbol.get_internals()
    names = internals.list_outputs()
    heads = []
    for index, head in enumerate(graph["heads"]):
        node = nodes[head[0]]
        if node["op"] not in _LOSSES:
            heads.append(symbol[index])
            continue
        source, number = nodes[node["inputs"][0][0]], node["inputs"][0][1]
        suffixes = ("", "_output", "_output%d" % number)
        data = next(internals[source["name"] + end] for end in suffixes if source["name"] + end in names)
        heads.append(_LOSSES[node["op"]](data, node.get("attrs", {})))
    return heads[0] if len(heads) == 1 else mx.sym.Group(heads)


def _softmax(data: Any, attributes: Dict[str, str]) -> Any:
    keeps = attributes.get("preserve_shape", "").lower() in ("true", "1")
    return mx.sym.softmax(data, axis=-1 if keeps else 1)


_LOSSES = {
    "SoftmaxOutput": _softmax,
    "LogisticRegressionOutput": lambda data, attributes: mx.sym.sigmoid(data),
    "LinearRegressionOutput": lambda data, attributes: mx.sym.identity(data),
    "MAERegressionOutput": lambda data, attributes: mx.sym.identity(data),
}  # type: Dict[str, Any]
