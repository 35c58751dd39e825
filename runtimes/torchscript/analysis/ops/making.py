"""Operators that create tensors from sizes and numbers."""

from typing import Any

from runtimes.dataflow import indexing, shaping
from runtimes.dataflow.arithmetic import OPERATORS, arithmetic
from runtimes.dataflow.sizes import fresh
from runtimes.dataflow.values import Value, as_rows, constant, propagate, repeats, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import UNSET, Arguments, rule


@rule("zeros ones full empty new_zeros new_ones new_full new_empty empty_permuted")
def filled(call: Call) -> Value:
    """Create a tensor. The values of an empty one are undefined, but no model lets them reach an output."""
    given = Arguments(call)
    fill = given.get("fill_value")
    if fill is not None and (fill.tainted or fill.has_rows or repeats(fill)):
        return unsure("%s is filled with a value that is not followed" % call.at, [fill])
    return shaping.fill_shape(given["size"])


@rule("zeros_like ones_like full_like empty_like")
def filled_like(call: Call) -> Value:
    value, fill = call[0], Arguments(call).get("fill_value")
    if fill is not None and (fill.tainted or fill.has_rows or repeats(fill)):
        return unsure("%s is filled with a value that is not followed" % call.at, [fill])
    if value.dims is None:
        return propagate([value]) if value.tainted else constant()

    return constant(value.dims) if not value.tainted else propagate([value], value.dims)


@rule("arange")
def arange(call: Call) -> Value:
    given = Arguments(call)
    start = given.get("start") or constant([], [0])
    return indexing.sequence(call.at, start, given["end"], given.get("step") or constant([], [1]))


@rule("__range_length")
def range_length(call: Call) -> Value:
    found = indexing.sequence(call.at, call[0], call[1], call[2])
    return constant([], [(found.dims or (None,))[0]]) if not found.tainted else found


@rule("__derive_index")
def range_index(call: Call) -> Value:
    index, start, step = call[0], call[1], call[2]
    found = arithmetic(call.at, OPERATORS["multiply"], index, step)
    return arithmetic(call.at, OPERATORS["add"], found, start)


@rule("linspace logspace")
def linspace(call: Call) -> Value:
    given = Arguments(call)
    wrong = call.not_constant(given.of("start end steps base"))
    return wrong if wrong is not None else constant([fresh()])


@rule("eye hann_window hamming_window blackman_window")
def made(call: Call) -> Any:
    wrong = call.not_constant(call.present)
    if wrong is not None:
        return wrong
    return constant([fresh(), fresh()] if call.node.operator == "eye" else [fresh()])


@rule("prim::Uninitialized")
def unset(call: Call) -> Value:
    return UNSET


@rule("prim::RaiseException prim::Print warn _assert_async _assert_tensor_metadata")
@rule("sym_constrain_range sym_constrain_range_for_size")
def nothing(call: Call) -> Any:
    """Return constants. An exception ends the request; the rule for the surrounding branch reports that."""
    return [constant() for _ in call.node.outputs]


@rule("_assert_scalar")
def asserted(call: Call) -> Any:
    condition = call[0]
    if condition.contents != (True,):
        if condition.tainted or condition.has_rows or repeats(condition):
            call.walk.unclear.append("%s may allow some numbers of rows only" % call.at)  # type: ignore[attr-defined]
    return [constant() for _ in call.node.outputs]


@rule("affine_grid_generator")
def affine_grid(call: Call) -> Value:
    given = Arguments(call)
    theta, sizes = given["theta"], given.numbers("size")
    found = as_rows(theta)
    if theta.tainted or found is None or found.axis != 0 or not sizes or sizes[0] != (found.dims or (None,))[0]:
        return unsure("%s is not followed" % call.at, [theta])
    return rows([sizes[0]] + sizes[2:] + [len(sizes) - 2], 0, found.before, found.after)
