"""Operations along the time axis. All sequences of a request have the same length, so nothing is masked."""

from typing import Callable, Dict, List

import numpy as np
from onnx import TensorProto

from ..context import TranslationContext
from ..dictionary import Axis
from ..functions import BATCH
from ..values import Value


def _sequence(context: TranslationContext, value: Value) -> Value:
    if value.lead != 2:
        context.refuse("its input is not a sequence, which is not covered")
    return value


def _shifted(context: TranslationContext) -> Value:
    """PastValue and FutureValue outside of loops: the sequence shifted, with the initial state inserted."""
    x, before = context.take(2)
    _sequence(context, x)
    offset, past = context.attribute("offset", int), context.function.op == "PastValue"
    if not 0 < offset < 1 << 31:
        context.refuse("it shifts by %d steps, but must shift by 1 to 2147483647" % offset)
    inserted = initial(context, before, x, x.shape, offset)
    moved = context.emit("Concat", *((inserted, context.tensor(x)) if past else (context.tensor(x), inserted)), axis=1)
    sizes = context.graph.sizes
    begin, end = (sizes(0), sizes(-offset)) if past else (sizes(offset), sizes(np.iinfo(np.int64).max))
    return context.value(context.emit("Slice", moved, begin, end, sizes(1)), x.shape, x.axes)


def initial(context: TranslationContext, value: Value, like: Value, shape: List[int], steps: int = 0) -> str:
    """Return the initial state for each row of `like`: [rows, shape…], or [rows, steps, shape…] if `steps` > 0."""
    if value.lead > 1:
        context.refuse("its initial state is a sequence, which is not covered")
    if len(value.shape) > len(shape) or any(
        size not in (1, expected) for size, expected in zip(value.shape[::-1], shape[::-1])
    ):
        context.refuse("its initial state has the shape %s, and its input %s" % (value.shape, list(shape)))
    context.static_product(shape)
    if value.axes:
        value = context.reshape(value, (1,) * (len(shape) - len(value.shape) + bool(steps)) + value.shape)
    rows = context.emit("Shape", context.tensor(like), start=0, end=1)
    sizes = ([steps] if steps else []) + list(shape)
    whole = context.emit("Concat", rows, context.graph.sizes(*sizes), axis=0) if sizes else rows
    return context.emit("Expand", context.tensor(value), whole)


def _reconciled(context: TranslationContext) -> Value:
    """ReconcileDynamicAxis: the first input, repeated for each step of the second."""
    x, like = context.take(2)
    if x.axes == like.axes:
        return x
    if x.lead > 1 or (x.lead and like.lead < 2):
        context.refuse("its inputs have different dynamic axes")
    context.static_product(x.shape)
    if x.lead:
        x = context.reshape(x, (1, *x.shape))._replace(shape=x.shape)
    ends = context.emit("Shape", context.tensor(like), start=0, end=like.lead)
    whole = context.emit("Concat", ends, context.graph.sizes(*x.shape), axis=0) if x.shape else ends
    name = context.emit("Expand", context.tensor(x), whole)
    return context.value(name, x.shape, like.axes)._replace(uniform=context.inputs[0].uniform)


def _unpacked(context: TranslationContext) -> List[Value]:
    """UnpackSequence: the time axis becomes static. The second output is a mask of ones, unless it is suppressed."""
    (x,) = context.take(1)
    _sequence(context, x)
    found = [x._replace(shape=(-1, *x.shape), axes=x.axes[:1])]
    if not context.attribute("sequenceUnpackSuppressMaskOutput", bool, False):
        ends = context.emit("Shape", context.tensor(x), start=0, end=2)
        ones = context.emit("Expand", context.graph.scalar(1, context.dtype), ends)
        found.append(context.value(ones, (-1,), x.axes[:1]))
    return found


def _to_sequence(context: TranslationContext) -> Value:
    if len(context.inputs) != 1:
        context.refuse("it is given the length of each sequence, which is not covered")
    (x,) = context.inputs
    if context.graph.inside or x.lead != 1 or not x.shape:
        context.refuse("its input has no axis that could become the time axis")
    return x._replace(shape=x.shape[1:], axes=(x.axes[0], "sequence_of_" + context.function.uid))


def _to_sequence_like(context: TranslationContext) -> Value:
    x, like = context.take(2)
    _sequence(context, like)
    if context.graph.inside or x.lead != 1 or not x.shape:
        context.refuse("its input has no axis that could become the time axis")
    return x._replace(shape=x.shape[1:], axes=like.axes)


def _where(context: TranslationContext) -> Value:
    """Where: the positions that are not 0, which must be the same for every row."""
    (x,) = context.take(1)
    _sequence(context, x)
    if not x.uniform or x.shape not in ((), (1,)):
        context.refuse("it selects positions by values, so sequences would differ in length, which is not covered")
    new_axes = context.attribute("newDynamicAxes", list)
    axes = tuple(axis.name for axis in reversed(new_axes) if isinstance(axis, Axis))
    if axes[:1] != (BATCH,) or len(axes) > 2:
        context.refuse("its result has the dynamic axes %s, which are not covered" % ", ".join(axes))
    first = context.emit("Reshape", context.tensor(x), context.graph.sizes(0, 0)) if x.shape else context.tensor(x)
    row = context.emit("Gather", first, context.graph.constant(np.array(0, np.int64), "zero"), axis=0)
    positions = context.emit("Squeeze", context.emit("NonZero", row), context.graph.sizes(0))
    if len(axes) == 1:
        # Without a time axis, the result is a single position.
        positions = context.emit("Reshape", positions, context.graph.sizes(1))
    cast = context.emit("Cast", positions, to=context.onnx_type)
    rows = context.emit("Shape", context.tensor(x), start=0, end=1)
    count = context.emit("Concat", rows, context.emit("Shape", positions), axis=0) if len(axes) == 2 else rows
    return context.value(context.emit("Expand", cast, count), (), axes)


def _packed_index(context: TranslationContext) -> Value:
    source, positions = context.take(2)
    _sequence(context, source)
    return positions


def _gather_packed(context: TranslationContext) -> Value:
    source, positions = context.take(2)
    _sequence(context, source)
    if not positions.uniform or positions.shape:
        context.refuse("it selects positions by values, so sequences would differ in length, which is not covered")
    zero = context.graph.constant(np.array(0, np.int64), "zero")
    row = context.emit("Cast", context.emit("Gather", context.tensor(positions), zero, axis=0), to=TensorProto.INT64)
    name = context.emit("Gather", context.tensor(source), row, axis=1)
    return context.value(name, source.shape, positions.axes)._replace(uniform=source.uniform)


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
