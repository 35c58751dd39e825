"""The rules for ONNX's operators that show the range of an input's numbers."""

from typing import Dict, Tuple

from runtimes.contract import InputRange
from runtimes.dataflow.graph import Model, Node
from runtimes.dataflow.ranges import (
    Ranges,
    Rule,
    added,
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

_SAME = "Dropout Expand Flatten Reshape Slice Split Squeeze Tile Transpose Unsqueeze"
_MICROSOFT = "com.microsoft"


def input_ranges(model: Model) -> Dict[str, InputRange]:
    """Return the ranges that the graph shows, by input."""
    constants = {tensor.name: tensor for tensor in model.graph.constants}
    inputs = {name: name for name, _ in model.graph.inputs if name not in constants}
    return ranges_of(model, _RULES, inputs, constants)


def _dequantize(ranges: Ranges, node: Node) -> None:
    ranges.copied(node, contents=False)


def _gather(ranges: Ranges, node: Node) -> None:
    """Handle Gather, whose second input indexes the first."""
    ranges.same(node)
    ranges.picks(node.inputs[1], ranges.rows_of(node.inputs[0], node.attributes.get("axis", 0)))


def _embed(ranges: Ranges, node: Node) -> None:
    """Handle EmbedLayerNormalization, whose ids and segments index two tables."""
    for ids, table in ((0, 2), (1, 4)):
        ranges.picks(node.inputs[ids], ranges.rows_of(node.inputs[table]) if len(node.inputs) > table else None)


def _clip(ranges: Ranges, node: Node) -> None:
    limits = [ranges.number(name) for name in node.inputs[1:]] or [node.attributes.get(end) for end in ("min", "max")]
    if len(limits) == 2 and limits[0] is not None and limits[1] is not None:
        ranges.between(node.inputs[0], limits[0], limits[1])


def _quantize(ranges: Ranges, node: Node) -> None:
    """Handle QuantizeLinear. The range covers signed and unsigned integers of 8 bits, since the type is not read."""
    scale = ranges.number(node.inputs[1])
    zero = ranges.number(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else 0.0
    if scale is not None and zero is not None:
        ranges.between(node.inputs[0], (-128 - zero) * scale, (255 - zero) * scale)


_RULES: Dict[Tuple[str, str], Rule] = {
    **{("", operator): Ranges.same for operator in _SAME.split()},
    ("", "Constant"): constant,
    **dict.fromkeys([("", "Cast"), ("", "CastLike"), ("", "Identity")], passed),
    ("", "DequantizeLinear"): _dequantize,
    ("", "Gather"): _gather,
    ("", "OneHot"): one_hot,
    ("", "Clip"): _clip,
    ("", "QuantizeLinear"): _quantize,
    ("", "Add"): added,
    ("", "Sub"): subtracted,
    ("", "Mul"): multiplied,
    ("", "Div"): divided,
    ("", "Where"): selected,
    ("", "Max"): cut_below,
    ("", "Min"): cut_above,
    (_MICROSOFT, "EmbedLayerNormalization"): _embed,
    (_MICROSOFT, "QuantizeLinear"): _quantize,
}
