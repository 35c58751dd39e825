"""Products, look-ups, and normalisation by stored statistics."""

from typing import Callable, Dict

import numpy as np

from ..context import TranslationContext
from ..values import Value

# How `inferInputRankToMap` says that a product also sums over the sequence.
_OVER_SEQUENCE = -2
# A file of a few bytes could ask for any number, each of which takes eight bytes here.
_MAX_CLASSES = 10_000_000


def _times(context: TranslationContext) -> Value:
    """Row-major: right [rest…, reduced…] times left [reduced…, out…] gives [rest…, out…]."""
    left, right = context.take(2)
    count = context.attribute("outputRank", int, 1)
    if context.attribute("inferInputRankToMap", int, -1) == _OVER_SEQUENCE:
        context.refuse("it sums over a sequence, which is not covered")
    if not 0 <= count <= len(left.shape):
        context.refuse("its output rank %d is more than its weights have" % count)
    reduced = len(left.shape) - count
    return _product(context, left, right, reduced, count)


def _transpose_times(context: TranslationContext) -> Value:
    """The same with left's axes the other way round: [out…, reduced…]."""
    left, right = context.take(2)
    count = context.attribute("outputRank", int, 1)
    if len(left.shape) == 1:  # a vector is a row then
        left = context.reshape(left, (1, *left.shape))
    if len(left.shape) != 2 or count != 1:
        context.refuse("its left operand has more than two axes, which is not covered")
    return _product(context, context.transpose(left, (1, 0)), right, 1, 1)


def _product(context: TranslationContext, left: Value, right: Value, reduced: int, count: int) -> Value:
    if reduced > len(right.shape) or left.shape[:reduced] != right.shape[len(right.shape) - reduced :]:
        context.refuse("its operands of shapes %s and %s do not go together" % (right.shape, left.shape))
    inner = context.definite(left.shape[:reduced])
    rest, out = right.shape[: len(right.shape) - reduced], left.shape[reduced:]
    axes = context.shared_axes([left, right])
    weights = context.reshape(left, (inner, context.definite(out)))
    if not left.axes and len(right.shape) == 1 and right.axes:
        rows = right  # [N, inner] @ [inner, out]: the usual case
    else:
        rows = context.reshape(right, (context.definite(rest), inner))
    shape = rows.shape[:-1] + weights.shape[1:]
    product = context.value(context.emit("MatMul", context.name(rows), context.name(weights)), shape, axes)
    return context.reshape(product, rest + out)


def _gather(context: TranslationContext) -> Value:
    """Rows of the second by the numbers in the first."""
    indices, reference = context.take(2)
    axis = context.function.attributes.get("axis")
    if reference.axes or not reference.shape:
        context.refuse("it looks up in what is no parameter, which is not covered")
    place = 0 if axis is None else context.existing_axis(axis, len(reference.shape))
    if place != 0:
        context.refuse("it looks up along another axis than the first, which is not covered")
    if reference.shape[0] < 1:
        context.refuse("it looks up in nothing")
    numbers = context.emit("Cast", context.name(indices), to=7)
    # ONNX counts what is below 0 from the end; here it is as wrong as what is beyond it.
    zero, beyond = (context.graph.constant(np.array(size, np.int64)) for size in (0, reference.shape[0]))
    numbers = context.emit("Where", context.emit("Less", numbers, zero), beyond, numbers)
    found = context.emit("Gather", context.name(reference), numbers, axis=0)
    return context.value(found, indices.shape + reference.shape[1:], indices.axes)


def _one_hot(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    count, axis = context.attribute("numClass", int), context.function.attributes.get("onehotAxis")
    rank = len(x.shape) + 1
    place = rank - 1 if axis is None else context.existing_axis(axis, rank)
    if not 0 < count <= _MAX_CLASSES:
        context.refuse("it has %d classes" % count)
    numbers = context.emit("Cast", context.name(x), to=7)
    # Not ONNX's OneHot, for which -1 is the last class: it is none here.
    classes = np.arange(count).reshape([count] + [1] * (rank - 1 - place))
    spread = context.emit("Unsqueeze", numbers, context.graph.sizes(x.lead + place))
    is_class = context.emit("Equal", spread, context.graph.constant(classes.astype(np.int64), "classes"))
    found = context.emit("Cast", is_class, to=context.onnx_type)
    return context.value(found, (*x.shape[:place], count, *x.shape[place:]), x.axes)


def _batch_normalization(context: TranslationContext) -> Value:
    """With the stored mean and variance, as in serving: one factor and one summand for each value or channel."""
    if not 5 <= len(context.inputs) <= 6:
        context.refuse("it has %d inputs where 5 or 6 are known" % len(context.inputs))
    x, *stored = context.inputs[:5]
    arrays = [each.array for each in stored]
    if any(array is None for array in arrays):
        context.refuse("its mean, variance, scale or bias is computed, which is not covered")
    wide = [np.asarray(array, np.float64) for array in arrays]
    epsilon = context.attribute("epsilon", float)
    scale, bias, mean, variance = wide
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
        summand = bias - mean * factor
    if context.attribute("spatial", bool):
        if not x.shape or factor.size not in (1, x.shape[0]):
            context.refuse("it has %d channels and its input %s" % (factor.size, list(x.shape)))
        shape = (factor.size,) + (1,) * (len(x.shape) - 1)
    elif factor.size == context.definite(x.shape):
        shape = x.shape
    else:
        context.refuse("it has %d values and its input %s" % (factor.size, list(x.shape)))
    named = [
        context.graph.constant(array.astype(context.dtype).reshape(shape), context.called + "_" + what)
        for array, what in ((factor, "factor"), (summand, "summand"))
    ]
    return context.value(context.emit("Add", context.emit("Mul", context.name(x), named[0]), named[1]), x.shape, x.axes)


TRANSLATORS: Dict[str, Callable[[TranslationContext], Value]] = {
    "Times": _times,
    "TransposeTimes": _transpose_times,
    "Gather": _gather,
    "OneHot": _one_hot,
    "BatchNormalization": _batch_normalization,
}
