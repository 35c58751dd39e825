"""Operators of ONNX that onnx2tf 2.6.9 writes so that they overflow, written so that they do not.

Softplus becomes log(1 + exp(x)) there, ReduceLogSumExp log(sum(exp(x))), both infinite from about 88 on, and
LogSoftmax log(softmax(x)), infinite where one score is 104 below another.
"""

from typing import Any, List, Optional

import numpy as np
import onnx_ir as ir


def write_out(model: Any) -> None:
    """Change the model."""
    opset = model.opset_imports.get("", 1)
    for node in list(model.graph.all_nodes()):
        if node.op_type in _FORMS and not node.domain:
            nodes = _FORMS[node.op_type](node, opset)
            if nodes is not None:
                old, new = node.outputs[0], nodes[-1].outputs[0]
                new.shape, new.type, new.name = old.shape, old.type, old.name
                ir.convenience.replace_nodes_and_values(node.graph, node, [node], nodes, [old], [new])


def _softplus(node: Any, opset: int) -> List[Any]:
    """max(x, 0) - log(sigmoid(|x|))"""
    above = ir.node("Relu", [node.inputs[0]])
    size = ir.node("Abs", [node.inputs[0]])
    part = ir.node("Sigmoid", size.outputs)
    log = ir.node("Log", part.outputs)
    return [above, size, part, log, ir.node("Sub", [above.outputs[0], log.outputs[0]])]


def _log_softmax(node: Any, opset: int) -> Optional[List[Any]]:
    """z - log(sum(exp(z))), z = x - max(x)"""
    if opset < 13:  # over all dimensions from the axis on
        return None
    axis = node.attributes.get("axis")
    axes = _axes([axis.as_int() if axis else -1])
    largest = _reduced("ReduceMax", node.inputs[0], axes, 1, opset)
    below = ir.node("Sub", [node.inputs[0], largest.outputs[0]])
    powers = ir.node("Exp", below.outputs)
    total = _reduced("ReduceSum", powers.outputs[0], axes, 1, opset)
    log = ir.node("Log", total.outputs)
    return [axes, largest, below, powers, total, log, ir.node("Sub", [below.outputs[0], log.outputs[0]])]


def _log_sum_exp(node: Any, opset: int) -> Optional[List[Any]]:
    """max(x) + log(sum(exp(x - max(x))))"""
    given, noop = node.attributes.get("axes"), node.attributes.get("noop_with_empty_axes")
    tensor = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if opset < 13 or (noop and noop.as_int()) or (len(node.inputs) > 1 and tensor is None):
        return None
    numbers = tensor.numpy().tolist() if tensor is not None else list(given.as_ints()) if given else []
    axes = _axes(numbers) if numbers else None
    kept = node.attributes.get("keepdims")
    x, keeps = node.inputs[0], kept.as_int() if kept else 1
    largest = _reduced("ReduceMax", x, axes, 1, opset)
    below = ir.node("Sub", [x, largest.outputs[0]])
    powers = ir.node("Exp", below.outputs)
    total = _reduced("ReduceSum", powers.outputs[0], axes, keeps, opset)
    log = ir.node("Log", total.outputs)
    again = _reduced("ReduceMax", x, axes, keeps, opset)
    end = ir.node("Add", [again.outputs[0], log.outputs[0]])
    return [*([axes] if axes else []), largest, below, powers, total, log, again, end]


def _axes(numbers: List[int]) -> Any:
    return ir.node("Constant", [], attributes={"value": ir.tensor(np.array(numbers, np.int64))})


def _reduced(operator: str, x: Any, axes: Optional[Any], keepdims: int, opset: int) -> Any:
    """Axes are an input of ReduceSum from opset 13 on, of the others from 18 on."""
    if axes is None:
        return ir.node(operator, [x], attributes={"keepdims": keepdims})
    if operator == "ReduceSum" or opset >= 18:
        return ir.node(operator, [x, axes.outputs[0]], attributes={"keepdims": keepdims})
    numbers = axes.attributes["value"].as_tensor().numpy().tolist()
    return ir.node(operator, [x], attributes={"axes": numbers, "keepdims": keepdims})


_FORMS = {"Softplus": _softplus, "LogSoftmax": _log_softmax, "ReduceLogSumExp": _log_sum_exp}
