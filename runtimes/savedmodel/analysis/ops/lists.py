"""Lists of tensors, which loops over time use.

All tensors of a list have the same shape, so a list is represented as one tensor with an additional first dimension.
"""

from typing import Any

from runtimes.dataflow import shaping
from runtimes.dataflow.sizes import fresh, has_rows
from runtimes.dataflow.values import Value, constant, propagate, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import EMPTY, is_a, marked, rule
from .control import either


@rule("TensorListReserve", "EmptyTensorList")
def reserve(call: Call) -> Value:
    # Elements that were never set are zeros, in the shape of the other elements or of the first input.
    count = call[1]
    if call[0].tainted or call[0].has_rows or count.tainted or count.has_rows or repeats(count):
        return unsure("%s has a size that is not followed" % call.at, call.present)
    reserved = call.node.operator == "TensorListReserve"
    known = count.contents[0] if reserved and count.contents else None
    return marked(EMPTY, known if isinstance(known, int) or known.__class__.__name__ == "Product" else fresh())


@rule("TensorListFromTensor")
def from_tensor(call: Call) -> Value:
    value = call[0]
    if value.dims is None or not value.dims:
        return unsure("%s splits a tensor of unknown rank" % call.at, call.present)
    return value._replace(contents=None) if not value.counts_rows else unsure("%s is not followed" % call.at)


def _element(call: Call, values: Value) -> Value:
    """Return any element of a list."""
    if values.tainted:
        return propagate([values])
    if is_a(values, EMPTY):
        return unsure("%s reads an element that was never set" % call.at)
    if values.dims is None:
        return constant()
    if values.axis == 0 or has_rows(values.dims[0]):
        return unsure("%s selects particular rows from a list" % call.at)
    return shaping.squeeze(call.at, values._replace(dims=(1,) + values.dims[1:], contents=None), [0])


def _with(call: Call, values: Value, item: Value) -> Value:
    """Return a list that contains the previous elements and another one."""
    if values.tainted or item.tainted:
        return propagate([values, item])
    if item.dims is None or item.counts_rows:
        return unsure("%s stores a value that is not followed" % call.at)
    size = values.dims[0] if values.dims else fresh()
    element = item if is_a(values, EMPTY) else either(call.at, _element(call, values), item)
    if element.tainted or element.dims is None:
        return propagate([element]) if element.tainted else unsure("%s stores a value that is not followed" % call.at)
    added = shaping.unsqueeze(call.at, element._replace(contents=None), [0])
    return added._replace(dims=(size,) + (added.dims or ())[1:])


@rule("TensorListGetItem")
def get(call: Call) -> Value:
    if call[1].tainted or call[1].has_rows or repeats(call[1]):
        return unsure("%s reads an element that is not followed" % call.at, call.present)
    return _element(call, call[0])


@rule("TensorListSetItem")
def put(call: Call) -> Value:
    if call[1].tainted or call[1].has_rows or repeats(call[1]):
        return unsure("%s sets an element that is not followed" % call.at, call.present)
    return _with(call, call[0], call[2])


@rule("TensorListPushBack")
def push(call: Call) -> Value:
    result = _with(call, call[0], call[1])
    return result if result.dims is None else result._replace(dims=(fresh(),) + result.dims[1:])


@rule("TensorListPopBack")
def pop(call: Call) -> Any:
    values = call[0]
    rest = values if values.dims is None or is_a(values, EMPTY) else values._replace(dims=(fresh(),) + values.dims[1:])
    return [rest, _element(call, values)]


@rule("TensorListStack")
def stack(call: Call) -> Value:
    if is_a(call[0], EMPTY):
        return unsure("%s reads an element that was never set" % call.at)
    return call[0]


@rule("TensorListLength")
def length(call: Call) -> Value:
    values = call[0]
    if values.tainted or values.dims is None:
        return propagate([values]) if values.tainted else constant([])
    return constant([], [values.dims[0]])
