"""Operations along a sequence's axis. All sequences of one request are of one length: nothing is masked."""

from typing import Callable, Dict, List

import numpy as np

from ..context import TranslationContext
from ..dictionary import Axis
from ..functions import BATCH
from ..values import Value

_INT64 = 7


def _sequence(context: TranslationContext, value: Value) -> Value:
    if value.lead != 2:
        context.refuse("its input is no sequence here, which is not covered")
    return value


def _shifted(context: TranslationContext) -> Value:
    """PastValue and FutureValue outside of loops: the sequence moved, with what stands before or after it."""
    x, before = context.take(2)
    _sequence(context, x)
    offset, past = context.attribute("offset", int), context.function.op == "PastValue"
    if not 0 < offset < 1 << 31:
        context.refuse("it moves by %d" % offset)
    filled = initial(context, before, x, x.shape, offset)
    moved = context.emit("Concat", *((filled, context.name(x)) if past else (context.name(x), filled)), axis=1)
    sizes = context.graph.sizes
    begin, end = (sizes(0), sizes(-offset)) if past else (sizes(offset), sizes(np.iinfo(np.int64).max))
    return context.value(context.emit("Slice", moved, begin, end, sizes(1)), x.shape, x.axes)


def initial(context: TranslationContext, value: Value, like: Value, shape: List[int], steps: int = 0) -> str:
    """What stands before a sequence, for each of `like`'s rows: [rows, steps…, shape…]."""
    if value.lead > 1:
        context.refuse("what stands before its sequence is a sequence itself, which is not covered")
    if len(value.shape) > len(shape) or any(
        size not in (1, wanted) for size, wanted in zip(value.shape[::-1], shape[::-1])
    ):
        context.refuse("what stands before its sequence has the shape %s, and it %s" % (value.shape, list(shape)))
    context.definite(shape)
    if value.axes:
        value = context.reshape(value, (1,) * (len(shape) - len(value.shape) + bool(steps)) + value.shape)
    rows = context.emit("Shape", context.name(like), start=0, end=1)
    sizes = ([steps] if steps else []) + list(shape)
    whole = context.emit("Concat", rows, context.graph.sizes(*sizes), axis=0) if sizes else rows
    return context.emit("Expand", context.name(value), whole)


def _reconciled(context: TranslationContext) -> Value:
    """The first for each step of the second."""
    x, like = context.take(2)
    if x.axes == like.axes:
        return x
    if x.lead > 1 or (x.lead and like.lead < 2):
        context.refuse("its inputs have different dynamic axes")
    context.definite(x.shape)
    if x.lead:
        x = context.reshape(x, (1, *x.shape))._replace(shape=x.shape)
    ends = context.emit("Shape", context.name(like), start=0, end=like.lead)
    whole = context.emit("Concat", ends, context.graph.sizes(*x.shape), axis=0) if x.shape else ends
    name = context.emit("Expand", context.name(x), whole)
    return context.value(name, x.shape, like.axes)._replace(uniform=context.inputs[0].uniform)


def _unpacked(context: TranslationContext) -> List[Value]:
    """The sequence as a static axis, and a mask of ones unless it is suppressed."""
    (x,) = context.take(1)
    _sequence(context, x)
    found = [x._replace(shape=(-1, *x.shape), axes=x.axes[:1])]
    if not context.attribute("sequenceUnpackSuppressMaskOutput", bool, False):
        ends = context.emit("Shape", context.name(x), start=0, end=2)
        ones = context.emit("Expand", context.graph.scalar(1, context.dtype), ends)
        found.append(context.value(ones, (-1,), x.axes[:1]))
    return found


def _to_sequence(context: TranslationContext) -> Value:
    if len(context.inputs) != 1:
        context.refuse("its sequences have lengths of their own, which is not covered")
    (x,) = context.inputs
    if context.graph.inside or x.lead != 1 or not x.shape:
        context.refuse("it makes a sequence of what has no axis for it")
    return x._replace(shape=x.shape[1:], axes=(x.axes[0], "sequence_of_" + context.function.uid))


def _to_sequence_like(context: TranslationContext) -> Value:
    x, like = context.take(2)
    _sequence(context, like)
    if context.graph.inside or x.lead != 1 or not x.shape:
        context.refuse("it makes a sequence of what has no axis for it")
    return x._replace(shape=x.shape[1:], axes=like.axes)


def _where(context: TranslationContext) -> Value:
    """The places that are not 0, which must be the same for every row."""
    (x,) = context.take(1)
    _sequence(context, x)
    if not x.uniform or x.shape not in ((), (1,)):
        context.refuse("it chooses places by values, so that sequences would differ in length, which is not covered")
    told = context.attribute("newDynamicAxes", list)
    axes = tuple(axis.name for axis in reversed(told) if isinstance(axis, Axis))
    if axes[:1] != (BATCH,) or len(axes) > 2:
        context.refuse("it makes the dynamic axes %s, which are not covered" % ", ".join(axes))
    first = context.emit("Reshape", context.name(x), context.graph.sizes(0, 0)) if x.shape else context.name(x)
    row = context.emit("Gather", first, context.graph.constant(np.array(0, np.int64), "zero"), axis=0)
    places = context.emit("Squeeze", context.emit("NonZero", row), context.graph.sizes(0))
    if len(axes) == 1:
        # CNTK knows that it is one.
        places = context.emit("Reshape", places, context.graph.sizes(1))
    cast = context.emit("Cast", places, to=context.onnx_type)
    rows = context.emit("Shape", context.name(x), start=0, end=1)
    count = context.emit("Concat", rows, context.emit("Shape", places), axis=0) if len(axes) == 2 else rows
    return context.value(context.emit("Expand", cast, count), (), axes)


def _packed_index(context: TranslationContext) -> Value:
    source, places = context.take(2)
    _sequence(context, source)
    return places


def _gather_packed(context: TranslationContext) -> Value:
    source, places = context.take(2)
    _sequence(context, source)
    if not places.uniform or places.shape:
        context.refuse("it chooses places by values, so that sequences would differ in length, which is not covered")
    zero = context.graph.constant(np.array(0, np.int64), "zero")
    row = context.emit("Cast", context.emit("Gather", context.name(places), zero, axis=0), to=_INT64)
    name = context.emit("Gather", context.name(source), row, axis=1)
    return context.value(name, source.shape, places.axes)._replace(uniform=source.uniform)


TRANSLATORS: Dict[str, Callable[[TranslationContext], object]] = {
    "PastValue": _shifted,
    "FutureValue": _shifted,
    "ReconcileDynamicAxis": _reconciled,
    "UnpackSequence": _unpacked,
    "ToSequence": _to_sequence,
    "ToSequenceLike": _to_sequence_like,
    "Where": _where,
    "PackedIndex": _packed_index,
    "GatherPacked": _gather_packed,
}
