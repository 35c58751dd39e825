"""The rules for TensorFlow Lite's operators that show the range of an input's numbers."""

from typing import Dict, List

from ai_edge_litert import schema_py_generated as schema

from runtimes.contract import InputRange
from runtimes.dataflow.graph import Graph, Model, Node, Tensor
from runtimes.dataflow.ranges import (
    Ranges,
    Rule,
    added,
    by_operator,
    cut_above,
    cut_below,
    divided,
    multiplied,
    negated,
    one_hot,
    passed,
    ranges_of,
    selected,
    subtracted,
)

from ..entries import Entry
from .file import LIMITS, SHAPE, TYPE, WIDTH, Reader

_SAME = """
    BROADCAST_TO EXPAND_DIMS RESHAPE REVERSE_SEQUENCE REVERSE_V2 SLICE SPLIT_V SQUEEZE STRIDED_SLICE TILE
    TRANSPOSE UNPACK
"""
_FLOATS = (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16, schema.TensorType.FLOAT64)
_RELU, _RELU_N1_TO_1, _RELU6 = (
    getattr(schema.ActivationFunctionType, name) for name in ("RELU", "RELU_N1_TO_1", "RELU6")
)
_ENDS = {_RELU6: (0.0, 6.0), _RELU_N1_TO_1: (-1.0, 1.0)}


def input_ranges(content: bytes, entry: Entry) -> Dict[str, InputRange]:
    """Return the range of each input of the signature that has one. Raises any exception if the file is malformed."""
    graph = Reader(content).graph(entry.subgraph)
    inputs = {str(number): name for name, number in entry.inputs.items()}
    return ranges_of(Model(graph, {}, {}), _RULES, inputs, {tensor.name: tensor for tensor in graph.constants})


def _gather(ranges: Ranges, node: Node) -> None:
    """Handle GATHER, whose second input indexes the first along an axis."""
    ranges.same(node)
    if not node.attributes.get("BatchDims"):
        ranges.picks(node.inputs[1], ranges.rows_of(node.inputs[0], node.attributes.get("Axis", 0)))


def _embedding(ranges: Ranges, node: Node) -> None:
    ranges.picks(node.inputs[0], ranges.rows_of(node.inputs[1]))


def _gather_nd(ranges: Ranges, node: Node) -> None:
    """Handle GATHER_ND. Its indices are coordinates, which are all within the smallest of the first dimensions."""
    sizes = [ranges.rows_of(node.inputs[0], axis) for axis in range(node.attributes[WIDTH] or 0)]
    if sizes and None not in sizes:
        ranges.picks(node.inputs[1], min(size or 0 for size in sizes))


def _split(ranges: Ranges, node: Node) -> None:
    for output in node.outputs:
        ranges.moved(node.inputs[1], output)


def _dequantized(ranges: Ranges, node: Node) -> None:
    ranges.copied(node, contents=False)


def _variable(ranges: Ranges, node: Node) -> None:
    if node.attributes.get(SHAPE):
        ranges.constant(node.outputs[0], Tensor("", tuple(node.attributes[SHAPE]), None))


def _quantized(ranges: Ranges, node: Node) -> None:
    limits = node.attributes[LIMITS]
    if limits is not None:
        ranges.between(node.inputs[0], *limits)


def _simulated(ranges: Ranges, node: Node) -> None:
    """Handle FAKE_QUANT, a quantization in floats."""
    ranges.between(node.inputs[0], node.attributes["Min"], node.attributes["Max"])


def _between(activation: int) -> Rule:
    def applied(ranges: Ranges, node: Node) -> None:
        if node.attributes[TYPE] in _FLOATS:  # for quantized numbers, these are not the limits
            ranges.between(node.inputs[0], *_ENDS[activation])

    return applied


def _relu(ranges: Ranges, node: Node) -> None:
    if node.attributes[TYPE] in _FLOATS:
        ranges.cut(node.inputs[0], node.outputs[0], 0.0, upper=False)


def _of_two(rule: Rule) -> Rule:
    """Return the rule for an operator with two operands that may have a fused activation."""

    def applied(ranges: Ranges, node: Node) -> None:
        activation = node.attributes.get("FusedActivationFunction", 0)
        before = node.outputs[0] + " before its activation" if activation else node.outputs[0]
        rule(ranges, node._replace(outputs=[before]))
        if activation in _ENDS:
            ranges.between(before, *_ENDS[activation])
        elif activation == _RELU:
            ranges.cut(before, node.outputs[0], 0.0, upper=False)

    return applied


def _either(ranges: Ranges, node: Node) -> None:
    """Handle IF. Its outputs are not followed."""
    for name in ("ThenSubgraphIndex", "ElseSubgraphIndex"):
        _run(ranges, node, name, node.inputs[1:], [])


def _loop(ranges: Ranges, node: Node) -> None:
    """Handle WHILE, by its first iteration. A value that the body passes on unchanged is the same after the loop."""
    _run(ranges, node, "CondSubgraphIndex", node.inputs, [])
    body = node.attributes.get("BodySubgraphIndex")
    if isinstance(body, Graph):
        carried = zip(node.outputs, body.outputs, body.inputs)
        kept = [output if result == argument else "" for output, result, (argument, _) in carried]
        _run(ranges, node, "BodySubgraphIndex", node.inputs, kept)


def _called(name: str) -> Rule:
    return lambda ranges, node: _run(ranges, node, name, node.inputs, node.outputs)


def _run(ranges: Ranges, node: Node, name: str, inputs: List[str], outputs: List[str]) -> None:
    graph = node.attributes.get(name)
    if isinstance(graph, Graph):
        ranges.graph(graph, inputs, outputs)


_RULES = by_operator(
    {
        "GATHER": _gather,
        "GATHER_ND": _gather_nd,
        "EMBEDDING_LOOKUP": _embedding,
        "ONE_HOT": one_hot,
        "ADD": _of_two(added),
        "SUB": _of_two(subtracted),
        "MUL": _of_two(multiplied),
        "DIV": _of_two(divided),
        "FLOOR_DIV": divided,
        "NEG": negated,
        "MAXIMUM": cut_below,
        "MINIMUM": cut_above,
        "RELU": _relu,
        "RELU6": _between(_RELU6),
        "RELU_N1_TO_1": _between(_RELU_N1_TO_1),
        "QUANTIZE": _quantized,
        "FAKE_QUANT": _simulated,
        "DEQUANTIZE": _dequantized,
        "READ_VARIABLE": _variable,
        "SPLIT": _split,
        "IF": _either,
        "WHILE": _loop,
        "CALL": _called("Subgraph"),
        "STABLEHLO_COMPOSITE": _called("DecompositionSubgraphIndex"),
        "SELECT SELECT_V2": selected,
        "CAST": passed,
        _SAME: Ranges.same,
    }
)
