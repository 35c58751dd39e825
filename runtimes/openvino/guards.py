"""Adds to a model an output that is true if OpenVINO has computed what other frameworks refuse.

OpenVINO's CPU plugin does not check all indices: Gather returns zeros for a row that a table lacks, GatherND what lies
there in memory, where ScatterElementsUpdate writes. Nor does it report an integer that was divided by zero. In a model
of variable shapes, it ignores the lengths of the sequences of recurrent layers. The bodies of branches and loops are
not guarded.
"""

from typing import Any, List, Set

import numpy as np
from openvino import opset13 as ops

# Kind → which of its inputs the axis is. The indices are input 1.
_INDEXED = {"Gather": 2, "ScatterElementsUpdate": 3, "GatherND": -1}
_DIVISIONS = ("Divide", "Mod", "FloorMod")
_LENGTHS = {"LSTMSequence": 3, "GRUSequence": 2, "RNNSequence": 2}  # kind → which of its inputs the lengths are


def guard(model: Any) -> str:
    """Add the output, and return what it guards against, in words for the client; "" if nothing in the graph can fail.

    The output is the model's last one.
    """
    variable: Set[str] = set()  # nodes whose results depend on the values of inputs, and not only on their shapes
    flags: List[Any] = []
    reasons: List[str] = []
    for node in model.get_ordered_ops():
        kind, sources = node.get_type_name(), node.input_values()
        is_variable = kind == "Parameter" or any(each.node.get_name() in variable for each in sources)
        if not is_variable or kind == "ShapeOf":
            continue
        variable.add(node.get_name())
        if kind in _INDEXED and (sources[1].node.get_name() in variable or sources[0].partial_shape.is_dynamic):
            bound, indices = _bound(kind, node, sources), ops.convert(sources[1], "i64")
            flags.append(
                _any(ops.logical_or(ops.greater_equal(indices, bound), ops.less(indices, ops.negative(bound))))
            )
            if kind != "Gather":  # it would use any address; and GatherND does not count negative indices from the end
                inside = ops.minimum(ops.maximum(indices, ops.negative(bound)), ops.subtract(bound, _numbers(1)))
                counted = ops.select(ops.less(inside, _numbers(0)), ops.add(inside, bound), inside)
                safe = ops.convert(counted, sources[1].element_type.get_type_name())
                node.input(1).replace_source_output(safe.output(0))
            reasons.append("an index is outside of the tensor that it selects from")
        elif kind in _DIVISIONS and _is_computed_integer(sources[1]):
            flags.append(_any(ops.equal(sources[1], _number(0, sources[1]))))
            reasons.append("an integer is divided by zero")
        elif kind in _LENGTHS and sources[0].partial_shape.is_dynamic:
            lengths = sources[_LENGTHS[kind]]
            if lengths.node.get_name() in variable or lengths.node.get_type_name() == "Constant":
                time = ops.gather(ops.shape_of(sources[0], "i64"), _numbers(1), _numbers(0))
                flags.append(_any(ops.not_equal(ops.convert(lengths, "i64"), time)))
                reasons.append("a sequence is shorter than its tensor, which OpenVINO ignores if shapes are variable")
    if not flags:
        return ""
    flag = flags[0] if len(flags) == 1 else _any(ops.concat([ops.unsqueeze(each, _numbers([0])) for each in flags], 0))
    result = ops.result(flag)
    model.add_results([result])
    return " or ".join(dict.fromkeys(reasons))


def _bound(kind: str, node: Any, sources: List[Any]) -> Any:
    """Return what indices must be less than, and at least the negative of."""
    sizes = ops.shape_of(sources[0], "i64")
    if kind != "GatherND":
        return ops.gather(sizes, ops.convert(sources[_INDEXED[kind]], "i64"), _numbers(0))
    batched, width = int(node.get_attributes().get("batch_dims", 0)), sources[1].partial_shape[-1].get_length()
    return ops.gather(sizes, _numbers(list(range(batched, batched + width))), _numbers(0))


def _is_computed_integer(source: Any) -> bool:
    return bool(source.element_type.is_integral()) and source.node.get_type_name() != "Constant"


def _any(flags: Any) -> Any:
    """Whether one of the flags is set: a scalar."""
    rank = ops.squeeze(ops.shape_of(ops.shape_of(flags, "i64"), "i64"), _numbers([0]))
    axes = ops.range(_numbers(0), rank, _numbers(1), "i64")
    return ops.reduce_logical_or(flags, axes, False)


def _number(number: int, like: Any) -> Any:
    return ops.constant(np.array(number, like.element_type.to_dtype()))


def _numbers(numbers: Any) -> Any:
    return ops.constant(np.array(numbers, np.int64))
