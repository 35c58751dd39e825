"""The rules for CNTK's operators that show the range of an input's numbers."""

from typing import Any, Dict, Iterator, List

import numpy as np

from runtimes.contract import InputRange
from runtimes.dataflow.graph import Graph, Model, Node, Tensor
from runtimes.dataflow.ranges import (
    Ranges,
    added,
    by_operator,
    cut_above,
    cut_below,
    divided,
    multiplied,
    negated,
    passed,
    ranges_of,
    subtracted,
)

_SAME = "Reshape Slice TransposeAxes ReconcileDynamicAxis PastValue FutureValue UnpackSequenceOp"
_PASSED = "Alias Cast NoOp Combine StopGradient"


def input_ranges(function: Any, arguments: Dict[str, Any]) -> Dict[str, InputRange]:
    """Return the range of each input that has one. arguments: those of the function, by the names for clients."""
    constants = {}  # type: Dict[str, Tensor]
    nodes = list(_nodes(function.root_function, constants))
    inputs = {variable.uid: name for name, variable in arguments.items()}
    return ranges_of(Model(Graph(nodes, [], [], []), {}, {}), _RULES, inputs, constants)


def _nodes(root: Any, constants: Dict[str, Tensor]) -> Iterator[Node]:
    """Return the functions, each after its inputs. A block without a rule is replaced by its functions."""
    for each in _ordered(root):
        for value in each.inputs:
            if value.is_constant or value.is_parameter:
                constants[value.uid] = _tensor(value)
        outputs = [value.uid for value in each.outputs]
        if not each.is_block or ("", each.op_name) in _RULES:
            # Asking a reduction over the batch for its attributes ends the process.
            attributes = {"depth": each.attributes["numClass"]} if each.op_name == "OneHotOp" else {}
            yield Node(each.op_name, "", "", [value.uid for value in each.inputs], outputs, attributes)
            continue
        for placeholder, value in each.block_arguments_mapping:
            yield Node("Alias", "", "", [value.uid], [placeholder.uid], {})
        yield from _nodes(each.block_root.root_function, constants)
        for inside, output in zip(each.block_root.outputs, outputs):
            yield Node("Alias", "", "", [inside.uid], [output], {})


def _ordered(root: Any) -> List[Any]:
    found, seen, pending = [], set(), [(root, False)]  # type: Any, Any, Any
    while pending:
        each, is_next = pending.pop()
        if is_next:
            found.append(each)
        elif each.uid not in seen:
            seen.add(each.uid)
            pending.append((each, True))
            pending.extend((value.owner, False) for value in each.inputs if value.is_output)
    return found


def _tensor(value: Any) -> Tensor:
    contents = None
    if value.shape in ((), (1,)):
        held = value.as_constant() if value.is_constant else value.as_parameter()
        contents = np.asarray(held.value).ravel().tolist()
    return Tensor(value.uid, tuple(value.shape), contents)


def _gather(ranges: Ranges, node: Node) -> None:
    """Handle Gather, whose second input indexes rows of the first."""
    ranges.same(node)
    ranges.picks(node.inputs[1], ranges.rows_of(node.inputs[0]))


def _one_hot(ranges: Ranges, node: Node) -> None:
    """Handle OneHotOp. Numbers that are not classes become zeros."""
    ranges.between(node.inputs[0], 0, node.attributes["depth"] - 1)


def _clip(ranges: Ranges, node: Node) -> None:
    low, high = map(ranges.number, node.inputs[1:3])
    if low is not None and high is not None:
        ranges.between(node.inputs[0], low, high)


_RULES = by_operator(
    {
        "Plus": added,
        "Minus": subtracted,
        "ElementTimes": multiplied,
        "ElementDivide": divided,
        "Negate": negated,
        "ElementMax": cut_below,
        "ElementMin": cut_above,
        "Clip": _clip,
        "Gather": _gather,
        "OneHotOp": _one_hot,
        _PASSED: passed,
        _SAME: Ranges.same,
    }
)
