"""If, Loop and Scan."""

from typing import Any

from runtimes.dataflow.loops import MAX_ROUNDS, is_stable, stack_rounds
from runtimes.dataflow.values import Value, constant, join, mixed, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule("If")
def either(call: Call) -> Any:
    condition = call[0]
    branches = [call.attribute("then_branch"), call.attribute("else_branch")]
    if condition.mixes or condition.has_rows:
        return [mixed("%s depends on values of the batch" % call.at, [condition])] * len(call.node.outputs)
    if condition.unknown or condition.counts_rows:
        return [unsure("%s depends on a condition that is not followed" % call.at, [condition])] * len(
            call.node.outputs
        )
    if condition.contents and isinstance(condition.contents[0], (bool, int)):
        return call.walk.graph(branches[0 if condition.contents[0] else 1], call.scope, {})
    results = [call.walk.graph(branch, call.scope, {}) for branch in branches]
    return [join(call.at, one, two) for one, two in zip(*results)]


@rule("Loop")
def loop(call: Call) -> Any:
    body, count, condition = call.attribute("body"), call.get(0), call.get(1)
    carried = [value if value is not None else unsure("%s lacks a value" % call.at) for value in call.inputs[2:]]
    bounds = [value for value in (count, condition) if value is not None]
    outputs = len(call.node.outputs)
    for bound in bounds:
        if bound.mixes or bound.has_rows:
            return [
                mixed("%s has a number of iterations that depends on values of the batch" % call.at, [bound])
            ] * outputs
        if bound.unknown or repeats(bound):
            return [
                unsure("%s has a number of iterations that depends on the number of rows" % call.at, [bound])
            ] * outputs
    carried = [value._replace(contents=None) if not value.counts_rows else value for value in carried]
    for iteration in range(MAX_ROUNDS):
        names = [name for name, _ in body.inputs]
        given = dict(zip(names, [constant([]), constant([])] + carried))
        results = call.walk.graph(body, call.scope, given)
        condition, after, scanned = results[0], results[1 : 1 + len(carried)], results[1 + len(carried) :]
        if condition.mixes or condition.has_rows:
            return [mixed("%s runs until values of the batch end it" % call.at, [condition])] * outputs
        if condition.unknown or repeats(condition):
            return [unsure("%s has a condition that is not followed" % call.at, [condition])] * outputs
        joined = [join(call.at, old, _without_contents(new)) for old, new in zip(carried, after)]
        if is_stable(carried, joined, iteration):
            return joined + [stack_rounds(value) for value in scanned]
        carried = joined
    return [unsure("%s is not followed" % call.at, carried)] * outputs


@rule("Scan")
def scan(call: Call) -> Any:
    """Handle opset 9 and later."""
    body, count = call.attribute("body"), call.attribute("num_scan_inputs")
    outputs = len(call.node.outputs)
    if call.version < 9:
        return [unsure("%s has an opset before 9" % call.at, call.present)] * outputs
    states, scanned = call.inputs[: len(call.inputs) - count], call.inputs[len(call.inputs) - count :]
    axes = call.attribute("scan_input_axes") or [0] * count
    directions = call.attribute("scan_output_axes") or [0] * outputs
    slices = []
    for value, axis in zip(scanned, axes):
        if value is None or value.dims is None or value.tainted or repeats(value) and not value.has_rows:
            return [unsure("%s is not followed" % call.at, call.present)] * outputs
        axis = axis + len(value.dims) if axis < 0 else axis
        if value.axis == axis:
            reason = "%s runs from row to row" % call.at
            return [(mixed if states else unsure)(reason, call.present)] * outputs
        new_axis = None if value.axis is None else value.axis - (axis < value.axis)
        slices.append(value._replace(dims=value.dims[:axis] + value.dims[axis + 1 :], axis=new_axis, contents=None))
    carried = [_without_contents(value) for value in states if value is not None]
    for iteration in range(MAX_ROUNDS):
        results = call.walk.graph(body, call.scope, dict(zip([name for name, _ in body.inputs], carried + slices)))
        joined = [join(call.at, old, _without_contents(new)) for old, new in zip(carried, results)]
        if is_stable(carried, joined, iteration):
            rest = results[len(carried) :]
            return joined + [stack_rounds(value, axis) for value, axis in zip(rest, directions)]
        carried = joined
    return [unsure("%s is not followed" % call.at, carried)] * outputs


def _without_contents(value: Value) -> Value:
    """Return a carried value without its contents, which may change, unless they depend on the number of rows."""
    return value if value.counts_rows else value._replace(contents=None)
