"""Turns a graph model of TensorFlow.js into a GraphDef that TensorFlow runs."""

from typing import Any, Dict, Iterable, Iterator, Mapping, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.python.framework import op_def_registry

from runtimes.contract import LoadError

from .tfjs_operators import OPERATORS

# Operators that exist only in TensorFlow.js, and those that TensorFlow itself only creates when it optimizes a graph.
_FUSED = {
    "_FusedMatMul": "MatMul",
    "_FusedConv2D": "Conv2D",
    "_FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
}
_DAMAGED = "the graph in model.json is damaged (%s): convert the model again"
_ACTIVATIONS = ("Elu", "Relu", "Relu6", "Sigmoid", "Tanh")


class Ends(NamedTuple):
    """inputs, outputs: name → tensor of the graph, "node:0"."""

    inputs: Dict[str, str]
    outputs: Dict[str, str]


def graph_def(topology: Any, weights: Mapping[str, np.ndarray]) -> Any:
    """Return the graph with its weights as constants, and without fused operators. Raises LoadError."""
    try:
        return _graph_def(topology, weights)
    except (LoadError, MemoryError):
        raise
    except Exception as error:  # an operator without its inputs, a weight of another kind than the graph needs, …
        raise LoadError(_DAMAGED % type(error).__name__) from error


def _graph_def(topology: Any, weights: Mapping[str, np.ndarray]) -> Any:
    definition = graph_pb2.GraphDef()
    json_format.ParseDict(topology, definition, ignore_unknown_fields=True)
    functions = {function.signature.name: function.node_def for function in definition.library.function}
    for nodes in [definition.node, *functions.values()]:
        made = []
        for node in nodes:
            if node.op not in OPERATORS and node.op not in _FUSED and node.op not in functions:
                raise LoadError("the graph has the operator %.60s, which TensorFlow.js lacks" % node.op)
            made.extend(_nodes(node))
        for node in made:
            if node.op == "Const":
                _fill(node, weights)
        del nodes[:]
        nodes.extend(made)
    return definition


def ends_of(model: Mapping[str, Any]) -> Ends:
    """Return the inputs and outputs that model.json declares; none if it has no signature."""
    metadata = model.get("userDefinedMetadata")
    signature = model.get("signature") or (metadata.get("signature") if isinstance(metadata, dict) else None) or {}
    try:
        inputs = {str(key): str(entry["name"]) for key, entry in signature.get("inputs", {}).items()}
        outputs = {str(key): str(entry["name"]) for key, entry in signature.get("outputs", {}).items()}
    except (AttributeError, KeyError, TypeError):
        raise LoadError("the signature in model.json is damaged: convert the model again") from None
    return Ends(inputs, outputs)


def _fill(node: Any, weights: Mapping[str, np.ndarray]) -> None:
    if node.name not in weights:
        if _has_content(node.attr["value"].tensor):
            return
        raise LoadError("the weight of node '%.60s' is not in the manifest: convert the model again" % node.name)
    dtype = tf.dtypes.as_dtype(node.attr["dtype"].type)
    # TensorFlow.js stores all floating-point numbers as float32, and all integers as int32.
    array = weights[node.name] if dtype == tf.string else weights[node.name].astype(dtype.as_numpy_dtype)
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array, dtype, array.shape))


def _has_content(tensor: Any) -> bool:
    filled = (field.name for field, _ in tensor.ListFields())
    return any(name not in ("dtype", "tensor_shape") for name in filled) or 0 in [
        d.size for d in tensor.tensor_shape.dim
    ]


def _nodes(node: Any) -> Iterator[Any]:
    """Yield what TensorFlow runs in place of a node. The last one has its name."""
    if node.op == "Prelu":
        yield from _prelu(node.name, node.input[0], node.input[1], node.attr["T"])
    elif node.op in _FUSED:
        yield from _unfused(node)
    else:
        copy = node_def_pb2.NodeDef()
        copy.CopyFrom(node)
        yield copy


def _unfused(node: Any) -> Iterator[Any]:
    data = [name for name in node.input if not name.startswith("^")]
    rest = data[2:]
    fused = [name.decode() for name in node.attr["fused_ops"].list.s]
    base = _FUSED[node.op]
    known = {attribute.name for attribute in op_def_registry.get(base).attr}
    kept = {key: value for key, value in node.attr.items() if key in known}
    names = ["%s/unfused_%d" % (node.name, index) for index in range(len(fused))] + [node.name]
    yield _node(base, names[0], [*data[:2], *(name for name in node.input if name.startswith("^"))], kept)
    kind = node.attr["T"]
    for operator, source, name in zip(fused, names, names[1:]):
        if operator == "BiasAdd":
            layout = {"data_format": node.attr["data_format"]} if "data_format" in node.attr else {}
            bias = rest.pop(0)
            if base == "MatMul":  # here, it may have several dimensions
                yield _node("AddV2", name, [source, bias], {"T": kind})
            else:
                yield _node("BiasAdd", name, [source, bias], {"T": kind, **layout})
        elif operator == "Prelu":
            yield from _prelu(name, source, rest.pop(0), kind)
        elif operator == "LeakyRelu":
            alpha = {"alpha": node.attr["leakyrelu_alpha"]} if "leakyrelu_alpha" in node.attr else {}
            yield _node("LeakyRelu", name, [source], {"T": kind, **alpha})
        elif operator in _ACTIVATIONS:
            yield _node(operator, name, [source], {"T": kind})
        else:
            raise LoadError("the graph has an operator fused with %.60s, which is not known" % operator)


def _prelu(name: str, source: str, alpha: str, kind: Any) -> Iterator[Any]:
    """max(x, 0) - alpha * max(-x, 0), which is also right for infinity."""
    attributes = {"T": kind}
    yield _node("Relu", name + "/positive", [source], attributes)
    yield _node("Neg", name + "/opposite", [source], attributes)
    yield _node("Relu", name + "/negative", [name + "/opposite"], attributes)
    yield _node("Mul", name + "/scaled", [name + "/negative", alpha], attributes)
    yield _node("Sub", name, [name + "/positive", name + "/scaled"], attributes)


def _node(operator: str, name: str, inputs: Iterable[str], attributes: Mapping[str, Any]) -> Any:
    made = node_def_pb2.NodeDef(op=operator, name=name, input=list(inputs))
    for key, value in attributes.items():
        made.attr[key].CopyFrom(value)
    return made
