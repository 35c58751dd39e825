"""Finds operators that let rows influence each other, in the graph that OpenVINO has read from whatever format.

Operators without a rule, and the bodies of branches and loops, are not followed.
"""

from typing import Any, Dict, List, Tuple

from runtimes.dataflow.graph import Graph, Model, Node, Tensor
from runtimes.dataflow.values import MAX_CONTENTS, Value
from runtimes.dataflow.walk import TooLarge, Walk, batch_input

from .rules import OPERATORS


def mixing(model: Any, outputs: List[int]) -> Tuple[str, ...]:
    """Return why rows influence each other in these outputs, as sentences; () if that is not known."""
    graph = _graph(model)
    inputs: Dict[str, Value] = {name: batch_input(name, sizes)[0] for name, sizes in graph.inputs}
    try:
        found = Walk(Model(graph, {}, {}), OPERATORS).graph(graph, None, inputs)
    except (TooLarge, RecursionError):
        return ()
    return tuple(dict.fromkeys(reason for index in outputs for reason in found[index].mixes))


def _graph(model: Any) -> Graph:
    nodes, constants, inputs = [], [], []
    for node in model.get_ordered_ops():
        kind, name = node.get_type_name(), node.get_name()
        if kind == "Constant":
            constants.append(Tensor(name + ":0", tuple(node.output(0).shape), _contents(node)))
        elif kind == "Parameter":
            inputs.append((name + ":0", _sizes(node.output(0).partial_shape)))
        elif kind not in ("Result", "Assign"):
            sources = [_tensor(each) for each in node.input_values()]
            made = ["%s:%d" % (name, index) for index in range(node.get_output_size())]
            attributes = dict(node.get_attributes(), version=node.get_type_info().version_id)
            nodes.append(Node(kind, "", node.get_friendly_name()[:60], sources, made, attributes))
    results = [_tensor(port.node.input_value(0)) for port in model.outputs]
    return Graph(nodes, constants, inputs, results)


def _tensor(output: Any) -> str:
    return "%s:%d" % (output.node.get_name(), output.index)


def _sizes(shape: Any) -> Any:
    if shape.rank.is_dynamic:
        return None
    return [int(size.get_length()) if size.is_static else None for size in shape]


def _contents(node: Any) -> Any:
    shape, kind = node.output(0).shape, node.get_element_type()
    count = 1
    for size in shape:
        count *= size
    readable = kind.is_integral() and kind.bitwidth >= 8 or kind.get_type_name() in ("f32", "f64", "boolean")
    return node.get_data().reshape(-1).tolist() if readable and count <= MAX_CONTENTS else None
