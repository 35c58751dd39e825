"""Finds the inputs and outputs of a graph that has no signature."""

from typing import Any, Collection, Dict, Iterable, Mapping, Set

from runtimes.checks import quoted
from runtimes.contract import LoadError

WITH_DEFAULT = "PlaceholderWithDefault"
PLACEHOLDERS = ("Placeholder", "PlaceholderV2")
# Nodes that are no answer, even if no other node reads them: what is left over, and the sides of conditions, of which
# one has no value.
_SIDES = ("Switch", "RefSwitch")
_NO_ANSWERS = (WITH_DEFAULT, *PLACEHOLDERS, "Const", *_SIDES)
_SUMMARIES = "Summary"  # for TensorBoard
_ASSERTIONS = "/AssertGuard/"  # in the names that TensorFlow gives to the parts of one
_MOST_LISTED = 10


def named(graph: Any, kind: str, names: Mapping[str, str]) -> Dict[str, Any]:
    """Return the tensors with these names, which are "node" or "node:1". Raises LoadError if one does not exist.

    kind  "input" or "output"
    """
    return {key: _tensor(graph, kind, name) for key, name in names.items()}


def unread(graph: Any) -> Dict[str, Any]:
    """Return the results of all nodes that no other node reads, by "node", or "node:1" for further results of one."""
    found = {}
    for operation in graph.get_operations():
        results = operation.outputs
        if not _is_left_over(operation) and not any(tensor.consumers() for tensor in results):
            for index, tensor in enumerate(results):
                found["%s:%d" % (operation.name, index) if index else operation.name] = tensor
    if not found:
        raise LoadError("this graph has no node that no other node reads: declare its outputs")
    return found


def _is_left_over(operation: Any) -> bool:
    return (
        operation.type in _NO_ANSWERS
        or operation.type.endswith(_SUMMARIES)
        or (operation.type == "Identity" and operation.inputs[0].op.type in _SIDES)
        or _ASSERTIONS in operation.name
        # Others wait for it, but need no result.
        or any(each.type != "NoOp" for each in operation._control_outputs)
    )


def needed(outputs: Iterable[Any], stops: Collection[str]) -> Set[Any]:
    """Return the operations that must run for these tensors when tensors with the names in `stops` are fed."""
    found: Set[Any] = set()
    stack = [tensor.op for tensor in outputs if tensor.name not in stops]
    while stack:
        operation = stack.pop()
        if operation not in found:
            found.add(operation)
            stack.extend(tensor.op for tensor in operation.inputs if tensor.name not in stops)
            # A node that waits for a placeholder does not need it if its tensor is fed.
            fed = (any(tensor.name in stops for tensor in each.outputs) for each in operation.control_inputs)
            stack.extend(each for each, is_fed in zip(operation.control_inputs, fed) if not is_fed)
    return found


def reached(output: Any, stops: Collection[str]) -> Set[str]:
    """Return the names of the tensors that are read to compute one, up to those in `stops`."""
    return {output.name}.union(tensor.name for each in needed([output], stops) for tensor in each.inputs)


def _tensor(graph: Any, kind: str, name: str) -> Any:
    node, _, index = name.partition(":")
    try:
        results = graph.get_operation_by_name(node).outputs
    except (KeyError, ValueError):
        ends = unread(graph) if kind == "output" else _of_types(graph)
        some = quoted(list(ends)[:_MOST_LISTED])
        what = "nodes that no other node reads are" if kind == "output" else "its placeholders are"
        raise LoadError(
            "the %s '%s' is declared, but the graph has no such node; %s %s" % (kind, name, what, some)
        ) from None
    if not (index or "0").isdecimal() or int(index or 0) >= len(results):
        raise LoadError("the %s '%s' is declared, but the node has %d results" % (kind, name, len(results)))
    return results[int(index or 0)]


def _of_types(graph: Any) -> Dict[str, Any]:
    return {each.name: each for each in graph.get_operations() if each.type in (*PLACEHOLDERS, WITH_DEFAULT)}
