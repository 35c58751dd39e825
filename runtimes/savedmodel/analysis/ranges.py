"""The rules for TensorFlow's operators that show the range of an input's numbers."""

from typing import Any, Dict, Mapping, Sequence

import tensorflow as tf

from runtimes.contract import InputRange
from runtimes.dataflow.graph import Node, Tensor
from runtimes.dataflow.ranges import (
    Ranges,
    added,
    by_operator,
    constant,
    cut_above,
    cut_below,
    divided,
    multiplied,
    one_hot,
    passed,
    ranges_of,
    selected,
    subtracted,
)

from .graph import Called, model_of, shape_of

_PASSED = "Cast CheckNumerics EnsureShape Identity PlaceholderWithDefault ReadVariableOp Snapshot StopGradient"
_SAME = "BroadcastTo ExpandDims Reshape Squeeze StridedSlice Tile Transpose"


def input_ranges(
    definition: Any, inputs: Mapping[str, str], variables: Mapping[str, Sequence[int]], outputs: Sequence[str]
) -> Dict[str, InputRange]:
    """Return the range of each input that has one.

    inputs     tensor → name of the input
    variables  tensor → sizes
    outputs    tensors
    """
    constants = {name: Tensor(name, tuple(sizes), None) for name, sizes in variables.items()}
    model = model_of(definition, [*inputs, *variables], outputs)
    return ranges_of(model, _RULES, inputs, constants)


def variables(function: Any) -> Dict[str, Sequence[int]]:
    """Return the tensors in a concrete function's graph that represent variables, with the variables' sizes."""
    found = {}
    for outer, inner in function.graph.captures:
        data = getattr(outer, "_handle_data", None)
        if outer.dtype != tf.resource:
            shape = shape_of(outer.shape.as_proto())
        elif data is not None and data.is_set and len(data.shape_and_type) == 1:
            shape = shape_of(data.shape_and_type[0].shape)
        else:
            continue
        if shape is not None and None not in shape:
            found[inner.name] = shape
    return found


def _called(ranges: Ranges, node: Node) -> None:
    function = node.attributes.get("f")
    if isinstance(function, Called):
        ranges.call(node, "", function.name)


def _gather(ranges: Ranges, node: Node) -> None:
    """Handle Gather, GatherV2 and ResourceGather, whose second input indexes rows of the first."""
    ranges.same(node)
    axis = ranges.number(node.inputs[2]) if len(node.inputs) > 2 else 0
    rows = ranges.rows_of(node.inputs[0], int(axis)) if axis is not None else None
    if not node.attributes.get("batch_dims"):
        ranges.picks(node.inputs[1], rows)


def _clip(ranges: Ranges, node: Node) -> None:
    low, high = map(ranges.number, node.inputs[1:3])
    if low is not None and high is not None:
        ranges.between(node.inputs[0], low, high)


def _variable(ranges: Ranges, node: Node) -> None:
    """Variables of TensorFlow 1, which are in the graph."""
    shape = node.attributes.get("shape")
    if shape is not None and None not in shape:
        ranges.constant(node.outputs[0], Tensor("", tuple(shape), None))


_RULES = by_operator(
    {
        "Add AddV2": added,
        "Sub": subtracted,
        "Mul": multiplied,
        "Div RealDiv FloorDiv": divided,
        "Maximum": cut_below,
        "Minimum": cut_above,
        "ClipByValue": _clip,
        "Const": constant,
        "Gather GatherV2 ResourceGather": _gather,
        "Select SelectV2": selected,
        "OneHot": one_hot,
        "PartitionedCall StatefulPartitionedCall": _called,
        "VarHandleOp VariableV2 Variable": _variable,
        _PASSED: passed,
        _SAME: Ranges.same,
    }
)
