"""Rewrites ONNX operators that onnx2tf 2.6.9 translates to numerically unstable formulas.

In FP32, its log(1 + exp(x)) for Softplus and log(sum(exp(x))) for ReduceLogSumExp are infinite from about x = 88 on,
and its log(softmax(x)) for LogSoftmax is infinite where a score is 104 below another.
"""

from typing import Any, List, Optional

import numpy as np
import onnx_ir as ir


def rewrite(model: Any) -> None:
    """Rewrite the model in place."""
    opset = model.opset_imports.get("", 1)
    for node in list(model.graph.all_nodes()):
        if node.op_type in _REWRITES and not node.domain:
            nodes = _REWRITES[node.op_type](node, opset)
            if nodes is not None:
                old, new = node.outputs[0], nodes[-1].outputs[0]
                new.shape, new.type, new.name = old.shape, old.type, old.name
                ir.convenience.replace_nodes_and_values(node.graph, node, [node], nodes, [old], [new])


def _softplus(node: Any, opset: int) -> List[Any]:
    """max(x, 0) - log(sigmoid(|x|))"""
    positive = ir.node("Relu", [node.inputs[0]])
    magnitude = ir.node("Abs", [node.inputs[0]])
    sigmoid = ir.node("Sigmoid", magnitude.outputs)
    log = ir.node("Log", sigmoid.outputs)
    return [positive, magnitude, sigmoid, log, ir.node("Sub", [positive.outputs[0], log.outputs[0]])]


def _log_softmax(node: Any, opset: int) -> Optional[List[Any]]:
    """z - log(sum(exp(z))), where z = x - max(x). None before opset 13, which flattens all axes from `axis` on."""
    if opset < 13:
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
    """max(x) + log(sum(exp(x - max(x)))). None if the axes are not constant or have another meaning."""
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
    """Return a reduction. Axes are an input of ReduceSum since opset 13, and of other reductions since opset 18."""
    if axes is None:
        return ir.node(operator, [x], attributes={"keepdims": keepdims})
    if operator == "ReduceSum" or opset >= 18:
        return ir.node(operator, [x, axes.outputs[0]], attributes={"keepdims": keepdims})
    numbers = axes.attributes["value"].as_tensor().numpy().tolist()
    return ir.node(operator, [x], attributes={"axes": numbers, "keepdims": keepdims})


_REWRITES = {"Softplus": _softplus, "LogSoftmax": _log_softmax, "ReduceLogSumExp": _log_sum_exp}
