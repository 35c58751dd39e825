"""Branches, loops and calls of other subgraphs."""

from typing import Any, List

from runtimes.dataflow.graph import Graph
from runtimes.dataflow.loops import while_loop
from runtimes.dataflow.values import Value, join, mixed, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


def _run(call: Call, name: str, values: List[Value]) -> List[Value]:
    graph = call.attribute(name)
    if not isinstance(graph, Graph) or len(graph.inputs) != len(values):
        raise ValueError("no subgraph for these tensors")
    return call.walk.graph(graph, None, {name: value for (name, _), value in zip(graph.inputs, values)})


def _inputs(call: Call) -> List[Value]:
    return [unsure("%s lacks a value" % call.at) if value is None else value for value in call.inputs]


@rule("IF")
def either(call: Call) -> Any:
    condition, values, count = call[0], _inputs(call)[1:], len(call.node.outputs)
    if condition.mixes or condition.has_rows:
        return [mixed("%s depends on values of the batch" % call.at, [condition])] * count
    if condition.unknown or condition.counts_rows:
        return [unsure("%s depends on a value that is not followed" % call.at, [condition])] * count
    branches = ["ThenSubgraphIndex", "ElseSubgraphIndex"]
    if condition.contents and isinstance(condition.contents[0], (bool, int)):
        return _run(call, branches[0 if condition.contents[0] else 1], values)
    return [join(call.at, one, two) for one, two in zip(*(_run(call, branch, values) for branch in branches))]


@rule("WHILE")
def loop(call: Call) -> Any:
    def round_of(values: List[Value]) -> Any:
        return _run(call, "CondSubgraphIndex", values)[0], _run(call, "BodySubgraphIndex", values)

    return while_loop(call.at, _inputs(call), round_of)


@rule("CALL")
def function(call: Call) -> Any:
    return _run(call, "Subgraph", _inputs(call))


@rule("STABLEHLO_COMPOSITE")
def composite(call: Call) -> Any:
    return _run(call, "DecompositionSubgraphIndex", _inputs(call))


@rule("CALL_ONCE")
def once(call: Call) -> Any:
    return []
