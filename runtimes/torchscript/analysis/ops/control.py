"""prim::If and prim::Loop."""

from typing import Any, List

from runtimes.dataflow.loops import MAX_ROUNDS, is_stable
from runtimes.dataflow.values import constant, mixed, repeats, unsure
from runtimes.dataflow.values import join as join_tensors
from runtimes.dataflow.walk import Call

from ..operators import NONE, UNCLEAR, UNSET, Items, rule

# Iterations of a loop with a known count that are followed one by one. Longer loops are followed until their values are
# stable, which is faster and less precise.
_MAX_UNROLLED = 64


def join(at: str, one: Any, two: Any) -> Any:
    """Return a value that holds for both, as after a branch on a condition that is the same for all rows."""
    if one == two or two == UNSET:
        return one
    if one == UNSET:
        return two
    if isinstance(one, Items) and isinstance(two, Items) and len(one.items) == len(two.items):
        return Items(tuple(join(at, *pair) for pair in zip(one.items, two.items)))
    if isinstance(one, Items) or isinstance(two, Items) or one == NONE or two == NONE:
        if not any(each.tainted or each.has_rows or repeats(each) for each in (one, two)):
            return constant()
        return unsure("%s returns None or another length in some cases" % at, [one, two])
    if one.counts_rows or two.counts_rows:
        return unsure("%s chooses among numbers of rows" % at, [one, two])
    if one.contents is not None and two.contents is not None and one.dims == two.dims:
        return constant(one.dims, [a if a == b else None for a, b in zip(one.contents, two.contents)])
    return join_tensors(at, one, two)


@rule("prim::If")
def either(call: Call) -> Any:
    condition, graphs = call[0], call.attribute("graphs")
    count = len(call.node.outputs)
    if not condition.tainted and condition.contents and isinstance(condition.contents[0], (bool, int)):
        return call.walk.graph(graphs[0 if condition.contents[0] else 1], call.scope, {})
    free = not (condition.tainted or condition.has_rows or repeats(condition))
    writes, unclear = call.walk.writes, call.walk.unclear  # type: ignore[attr-defined]
    call.walk.writes, call.walk.unclear = [], []  # type: ignore[attr-defined]
    results = [call.walk.graph(graph, call.scope, {}) for graph in graphs]
    unclear.extend(call.walk.writes + call.walk.unclear)  # type: ignore[attr-defined]
    call.walk.writes, call.walk.unclear = writes, unclear  # type: ignore[attr-defined]
    if free:
        return [join(call.at, one, two) for one, two in zip(*results)]
    if any(_may_end(graph) for graph in graphs):
        unclear.append("%s may refuse some rows" % call.at)
    if condition.mixes or condition.has_rows:
        return [mixed("%s depends on values of the batch" % call.at, [condition])] * count
    return [unsure("%s depends on a condition that is not followed" % call.at, [condition])] * count


def _may_end(graph: Any) -> bool:
    """Return whether a graph contains an operator that may end the run."""
    return any(
        node.operator in ("prim::RaiseException", UNCLEAR) or any(map(_may_end, node.attributes.get("graphs") or ()))
        for node in graph.nodes
    )


@rule("prim::Loop")
def loop(call: Call) -> Any:
    body, count, condition = call.attribute("graphs")[0], call[0], call[1]
    outputs = len(call.node.outputs)
    names = [name for name, _ in body.inputs]
    for bound in (count, condition):
        if bound.mixes or bound.has_rows:
            return [
                mixed("%s has a number of iterations that depends on values of the batch" % call.at, [bound])
            ] * outputs
        if bound.unknown or repeats(bound):
            call.walk.unclear.append("%s has a number of iterations that is not followed" % call.at)  # type: ignore[attr-defined]
            return [
                unsure("%s has a number of iterations that depends on the number of rows" % call.at, [bound])
            ] * outputs
    carried = list(call.inputs[2:])  # type: List[Any]
    if count.contents and isinstance(count.contents[0], int) and count.contents[0] <= _MAX_UNROLLED:
        unrolled = _unrolled(call, body, names, carried, count.contents[0])
        if unrolled is not None:
            return unrolled
    if any(isinstance(value, Items) or value == NONE for value in carried):
        call.walk.unclear.append("%s is not followed" % call.at)  # type: ignore[attr-defined]
        return [unsure("%s is not followed" % call.at, carried)] * outputs
    carried = [value if value.counts_rows else value._replace(contents=None) for value in carried]
    for iteration in range(MAX_ROUNDS):
        results = call.walk.graph(body, call.scope, dict(zip(names, [constant([])] + carried)))
        again, after = results[0], results[1:]
        if again.mixes or again.has_rows:
            return [mixed("%s runs until values of the batch end it" % call.at, [again])] * outputs
        if again.unknown or repeats(again):
            return [unsure("%s has a condition that is not followed" % call.at, [again])] * outputs
        joined = [join(call.at, old, new) for old, new in zip(carried, after)]
        joined = [each if each.counts_rows else each._replace(contents=None) for each in joined]
        if is_stable(carried, joined, iteration):
            return joined
        carried = joined
    return [unsure("%s is not followed" % call.at, carried)] * outputs


def _unrolled(call: Call, body: Any, names: List[str], carried: List[Any], count: int) -> Any:
    """Return the carried values after all iterations, or None if it is unknown whether the loop ends earlier."""
    for iteration in range(count):
        given = dict(zip(names, [constant([], [iteration])] + carried))
        results = call.walk.graph(body, call.scope, given)
        if results[0].tainted or results[0].contents is None or results[0].contents[0] not in (True, False):
            return None
        carried = list(results[1:])
        if not results[0].contents[0]:
            break
    return carried
