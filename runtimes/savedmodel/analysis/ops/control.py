"""Calls, branches and loops of functions, and those branches of TensorFlow 1 whose condition is known."""

from typing import Any, List

from runtimes.dataflow.loops import MAX_ROUNDS, is_stable
from runtimes.dataflow.values import Value, constant, join, mixed, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import DEAD, EMPTY, is_a, marked, rule


@rule("PartitionedCall", "StatefulPartitionedCall")
def called(call: Call) -> Any:
    function = call.attribute("f")
    return call.walk.apply(function.name, call.present, function.attributes)


def either(at: str, one: Value, two: Value) -> Value:
    """As `join`, but a list without elements is compatible with any list."""
    if is_a(one, EMPTY) and not two.tainted:
        return two
    if is_a(two, EMPTY) and not one.tainted:
        return one
    return join(at, one, two)


def _refused(call: Call, condition: Value, does: str) -> Any:
    """Return the results if the condition can depend on the request; None if it cannot."""
    count = len(call.node.outputs)
    if condition.mixes:
        return [mixed("%s %s values of the batch" % (call.at, does), [condition])] * count
    if condition.tainted or condition.has_rows or condition.dims is None or repeats(condition):
        return [unsure("%s %s a value that is not followed" % (call.at, does), [condition])] * count
    return None


@rule("If", "StatelessIf", "Case", "StatelessCase")
def branch(call: Call) -> Any:
    condition, given = call[0], call.present[1:]
    wrong = _refused(call, condition, "depends on")
    if wrong is not None:
        return wrong
    if call.node.operator.endswith("If"):
        branches = [call.attribute("else_branch"), call.attribute("then_branch")]
    else:
        branches = call.attribute("branches")
    known = condition.contents[0] if condition.contents and condition.dims == () else None
    if isinstance(known, (bool, int)):
        inside = bool(known) if call.node.operator.endswith("If") else known if 0 <= known < len(branches) else -1
        branches = [branches[int(inside)]]
    results = [call.walk.apply(each.name, given, each.attributes) for each in branches]
    joined = results[0]
    for other in results[1:]:
        joined = [either(call.at, one, two) for one, two in zip(joined, other)]
    return joined


@rule("While", "StatelessWhile")
def loop(call: Call) -> Any:
    test, body = call.attribute("cond"), call.attribute("body")
    carried: List[Value] = call.present
    for turn in range(MAX_ROUNDS):
        wrong = _refused(call, call.walk.apply(test.name, carried, test.attributes)[0], "runs as long as")
        if wrong is not None:
            return wrong
        after = call.walk.apply(body.name, carried, body.attributes)
        joined = [either(call.at, old, new) for old, new in zip(carried, after)]
        same = [value.contents for value in joined] == [value.contents for value in carried]
        if same and is_stable(carried, joined, turn):
            return joined
        carried = joined
    return [unsure("%s is not followed" % call.at, carried)] * len(call.node.outputs)


@rule("Switch", "RefSwitch")
def switch(call: Call) -> Any:
    value, condition = call[0], call[1]
    if condition.tainted or condition.has_rows or not condition.contents or not isinstance(condition.contents[0], bool):
        return [unsure("%s depends on a value that is not followed" % call.at, call.present)] * 2
    return [marked(DEAD), value] if condition.contents[0] else [value, marked(DEAD)]


@rule("Merge", "RefMerge")
def merge(call: Call) -> Any:
    alive = [value for value in call.present if not is_a(value, DEAD)]
    if len(alive) != 1:
        return [unsure("%s is not followed" % call.at, call.present)] * 2
    return [alive[0], constant([])]
