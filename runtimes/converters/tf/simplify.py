"""Rewrites TensorFlow graphs to operators that other frameworks support."""

from typing import Any, Callable

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

_XLA = "_XlaMustCompile"


def simplified(function: Any) -> Any:
    """Return an equivalent frozen function with all calls inlined and Keras's erfc(x) replaced by 1 - erf(x)."""
    graph = function.graph.as_graph_def()
    if any(_XLA in node.attr for node in graph.node):
        function = _changed(function, _without_xla)
    if any(node.op == "Erfc" for node in function.graph.as_graph_def().node):
        function = _changed(function, _without_erfc)
    return function


def _changed(function: Any, change: Callable[[Any], None]) -> Any:
    graph = function.graph.as_graph_def()
    change(graph)
    imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    inputs, outputs = [
        [imported.graph.get_tensor_by_name(tensor.name) for tensor in tensors]
        for tensors in (function.inputs, function.outputs)
    ]
    pruned = imported.prune(inputs, outputs)
    return convert_variables_to_constants_v2(pruned, lower_control_flow=False, aggressive_inlining=True)


def _without_xla(graph: Any) -> None:
    """Allow inlining of functions marked for compilation by XLA, such as Keras's grouped convolutions."""
    functions = graph.library.function
    # TensorFlow registers functions by name in the process, so the changed ones need new names.
    names = {function.signature.name: function.signature.name + "_inlined" for function in functions}
    for node in [*graph.node, *(node for function in functions for node in function.node_def)]:
        node.attr.pop(_XLA, None)
        node.op = names.get(node.op, node.op)
        for value in node.attr.values():
            for called in [value.func, *value.list.func]:
                if called.name in names:
                    called.name = names[called.name]
    for function in functions:
        function.attr.pop(_XLA, None)
        function.signature.name = names[function.signature.name]


def _without_erfc(graph: Any) -> None:
    for node in [node for node in graph.node if node.op == "Erfc"]:
        kind = node.attr["T"]
        erf = graph.node.add(name=node.name + "/erf", op="Erf", input=list(node.input))
        one = graph.node.add(name=node.name + "/one", op="Const")
        one.attr["dtype"].CopyFrom(kind)
        one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1, kind.type, shape=[]))
        erf.attr["T"].CopyFrom(kind)
        node.op = "Sub"
        del node.input[:]
        node.input.extend([one.name, erf.name])
