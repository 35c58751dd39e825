"""ONNX's operators that say which numbers an input may hold."""

from typing import Dict

from runtimes.contract import InputRange
from runtimes.dataflow.graph import Model, Node, Tensor
from runtimes.dataflow.ranges import Ranges, ranges_of

_SAME = "Dropout Expand Flatten Reshape Slice Split Squeeze Tile Transpose Unsqueeze"
_MICROSOFT = "com.microsoft"


def input_ranges(model: Model) -> Dict[str, InputRange]:
    return ranges_of(model.graph, _RULES)


def _constant(ranges: Ranges, node: Node) -> None:
    value = node.attributes.get("value")
    if isinstance(value, Tensor):
        ranges.constant(node.outputs[0], value)


def _table(ranges: Ranges, node: Node) -> None:
    """What gives a constant of the same sizes, where it is given one"""
    ranges.same(node)
    ranges.copied(node)


def _dequantised(ranges: Ranges, node: Node) -> None:
    ranges.copied(node, contents=False)


def _gather(ranges: Ranges, node: Node) -> None:
    """Gather: the second input picks rows of the first"""
    ranges.same(node)
    rows = ranges.rows_of(node.inputs[0], node.attributes.get("axis", 0))
    if rows is not None:
        ranges.between(node.inputs[1], 0, rows - 1, rows=True)


def _embedded(ranges: Ranges, node: Node) -> None:
    """EmbedLayerNormalization: ids and segments pick rows of the tables of words and segments"""
    for ids, table in ((0, 2), (1, 4)):
        rows = ranges.rows_of(node.inputs[table]) if len(node.inputs) > table else None
        if rows is not None:
            ranges.between(node.inputs[ids], 0, rows - 1, rows=True)


def _one_hot(ranges: Ranges, node: Node) -> None:
    depth = ranges.number(node.inputs[1])
    if depth is not None:
        ranges.between(node.inputs[0], 0, depth - 1)


def _clip(ranges: Ranges, node: Node) -> None:
    limits = [ranges.number(name) for name in node.inputs[1:]] or [node.attributes.get(end) for end in ("min", "max")]
    if len(limits) == 2 and limits[0] is not None and limits[1] is not None:
        ranges.between(node.inputs[0], limits[0], limits[1])


def _quantised(ranges: Ranges, node: Node) -> None:
    """QuantizeLinear: what 8 bits hold, with a sign or without: which of both is not read"""
    scale = ranges.number(node.inputs[1])
    zero = ranges.number(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else 0.0
    if scale is not None and zero is not None:
        ranges.between(node.inputs[0], (-128 - zero) * scale, (255 - zero) * scale)


def _sum(ranges: Ranges, node: Node) -> None:
    """Add, Sub"""
    one, other = (ranges.number(name) for name in node.inputs)
    sign = -1.0 if node.operator == "Sub" else 1.0
    if other is not None:
        ranges.moved(node.inputs[0], node.outputs[0], shift=sign * other)
    elif one is not None:
        ranges.moved(node.inputs[1], node.outputs[0], sign, one)


def _product(ranges: Ranges, node: Node) -> None:
    """Mul, Div"""
    one, other = (ranges.number(name) for name in node.inputs)
    if node.operator == "Div":
        one, other = None, (1 / other if other else None)
    if other is not None:
        ranges.moved(node.inputs[0], node.outputs[0], other)
    elif one is not None:
        ranges.moved(node.inputs[1], node.outputs[0], one)


_RULES = {
    **{("", operator): Ranges.same for operator in _SAME.split()},
    ("", "Constant"): _constant,
    **dict.fromkeys([("", "Cast"), ("", "CastLike"), ("", "Identity")], _table),
    ("", "DequantizeLinear"): _dequantised,
    ("", "Gather"): _gather,
    ("", "OneHot"): _one_hot,
    ("", "Clip"): _clip,
    ("", "QuantizeLinear"): _quantised,
    **dict.fromkeys([("", "Add"), ("", "Sub")], _sum),
    **dict.fromkeys([("", "Mul"), ("", "Div")], _product),
    (_MICROSOFT, "EmbedLayerNormalization"): _embedded,
    (_MICROSOFT, "QuantizeLinear"): _quantised,
}  # type: Dict[Tuple[str, str], Rule]
