"""The rules for MXNet's operators that show the range of an input's numbers."""

from typing import Callable, Dict, Mapping, Optional, Sequence, Tuple

from runtimes.contract import InputRange
from runtimes.dataflow.graph import Node, Tensor
from runtimes.dataflow.ranges import Ranges, Rule, by_operator, passed, ranges_of, selected

from .file import of_json

_PASSED = "BlockGrad Cast MakeLoss _copy amp_cast identity make_loss stop_gradient"
_SAME = """
    Flatten Reshape SliceChannel SwapAxis _np_reshape _np_squeeze _np_transpose _npi_reshape _split_v2 broadcast_axes
    broadcast_axis broadcast_like broadcast_to expand_dims flip repeat reshape_like reverse slice slice_axis slice_like
    split squeeze tile transpose
"""


def input_ranges(
    symbol: str, sizes: Mapping[str, Optional[Sequence[int]]], inputs: Sequence[str]
) -> Dict[str, InputRange]:
    """Return the range of each of these inputs that has one.

    symbol  JSON from `Symbol.tojson`
    sizes   sizes of parameters, and of results by their names in `Symbol.list_outputs`; -1 if unknown
    """
    model = of_json(symbol, {}, inputs)
    known = {name: Tensor(name, tuple(dims), None) for name, dims in sizes.items() if dims}
    for node in model.graph.nodes:
        for end in ("_output", "_output0"):  # a node's only output, or the first of several
            if node.name + end in known:
                known[node.outputs[0]] = known[node.name + end]
    return ranges_of(model, _RULES, {name: name for name in inputs}, known)


def _size(ranges: Ranges, name: str, axis: int) -> Optional[int]:
    size = ranges.rows_of(name, axis)
    return size if size is not None and size > 0 else None


def _embedding(ranges: Ranges, node: Node) -> None:
    ranges.picks(node.inputs[0], node.attributes.get("input_dim"))


def _take(ranges: Ranges, node: Node) -> None:
    """Handle take. An index beyond the end selects the last row, or with mode "wrap" starts again from the first."""
    ranges.same(node)
    if node.attributes.get("mode") != "wrap":
        ranges.picks(node.inputs[1], _size(ranges, node.inputs[0], node.attributes.get("axis", 0)))


def _pick(ranges: Ranges, node: Node) -> None:
    ranges.same(node)
    axis = node.attributes.get("axis", -1)
    if axis is not None and node.attributes.get("mode") != "wrap":
        ranges.picks(node.inputs[1], _size(ranges, node.inputs[0], axis))


def _batch_take(ranges: Ranges, node: Node) -> None:
    ranges.same(node)
    ranges.picks(node.inputs[1], _size(ranges, node.inputs[0], 1))


def _gather_nd(ranges: Ranges, node: Node) -> None:
    """Handle gather_nd. Its indices are coordinates, which are all within the smallest of the first dimensions."""
    ranges.same(node)
    sizes = [_size(ranges, node.inputs[0], axis) for axis in range(_size(ranges, node.inputs[1], 0) or 0)]
    if sizes and None not in sizes:
        ranges.picks(node.inputs[1], min(size or 0 for size in sizes))


def _one_hot(ranges: Ranges, node: Node) -> None:
    ranges.between(node.inputs[0], 0, node.attributes["depth"] - 1)


def _clip(ranges: Ranges, node: Node) -> None:
    ranges.between(node.inputs[0], _number(node, "a_min"), _number(node, "a_max"))


def _relu(ranges: Ranges, node: Node) -> None:
    if node.operator == "relu" or node.attributes.get("act_type") == "relu":
        ranges.cut(node.inputs[0], node.outputs[0], 0.0, upper=False)


def _quantized(ranges: Ranges, node: Node) -> None:
    low, high = (node.attributes.get(end + "_calib_range") for end in ("min", "max"))
    if low is not None and high is not None:
        ranges.between(node.inputs[0], float(low), float(high))


# Operator → (scale, shift) of a number, given the scalar.
_LINES: Dict[str, Callable[[float], Tuple[float, float]]] = {
    "_plus_scalar": lambda scalar: (1, scalar),
    "_minus_scalar": lambda scalar: (1, -scalar),
    "_rminus_scalar": lambda scalar: (-1, scalar),
    "_mul_scalar": lambda scalar: (scalar, 0),
    "_div_scalar": lambda scalar: (1 / scalar if scalar else 0, 0),
    "negative": lambda scalar: (-1, 0),
}


def _computed(ranges: Ranges, node: Node) -> None:
    ranges.moved(node.inputs[0], node.outputs[0], *_LINES[node.operator](_number(node, "scalar")))


def _cut(upper: bool) -> Rule:
    def applied(ranges: Ranges, node: Node) -> None:
        ranges.cut(node.inputs[0], node.outputs[0], _number(node, "scalar"), upper)

    return applied


def _number(node: Node, name: str) -> float:
    return float(node.attributes.get(name, 0))


_RULES = by_operator(
    {
        "Embedding": _embedding,
        "take": _take,
        "pick choose_element_0index": _pick,
        "batch_take": _batch_take,
        "gather_nd": _gather_nd,
        "one_hot": _one_hot,
        "clip": _clip,
        "relu Activation": _relu,
        "_maximum_scalar": _cut(upper=False),
        "_minimum_scalar": _cut(upper=True),
        "_contrib_quantize_v2": _quantized,
        " ".join(_LINES): _computed,
        "where": selected,
        _PASSED: passed,
        _SAME: Ranges.same,
    }
)
