"""Finds operators that draw random numbers, wherever they are in a model."""

from typing import Any, Collection, Iterator

from .graph import Graph, Model
from .values import operator_label


def random_operator(model: Model, names: Collection[str]) -> str:
    """Return what the log says of the first operator with one of these names; "" if there is none.

    The walk along rows does not see all of them: not those in a branch that depends on values, nor those behind many
    others that have been reported.
    """
    stack = [model.graph.nodes]
    stack += [function.nodes for function in model.functions.values()]
    seen = set()
    while stack:
        nodes = stack.pop()
        if id(nodes) in seen:
            continue
        seen.add(id(nodes))
        for node in nodes:
            if node.operator in names:
                return "%s is random" % operator_label(node.operator, node.name or next(iter(node.outputs), ""))
            stack += [graph.nodes for value in node.attributes.values() for graph in _graphs(value)]
    return ""


def _graphs(value: Any) -> Iterator[Graph]:
    if isinstance(value, Graph):
        yield value
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, Graph):
                yield each
