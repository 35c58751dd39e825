"""Matrix products, lookups, and batch normalization."""

from typing import Callable, Dict

import numpy as np
from onnx import TensorProto

from ..context import TranslationContext
from ..values import Value

# The value of `inferInputRankToMap` with which a product also sums over the sequence.
_OVER_SEQUENCE = -2
# A file of a few bytes could request any number of classes, and each takes eight bytes in the ONNX model.
_MAX_CLASSES = 10_000_000


def _times(context: TranslationContext) -> Value:
    """In row-major shapes: right [rest…, reduced…] times left [reduced…, out…] is [rest…, out…]."""
    left, right = context.take(2)
    count = context.attribute("outputRank", int, 1)
    if context.attribute("inferInputRankToMap", int, -1) == _OVER_SEQUENCE:
        context.refuse("it sums over a sequence, which is not covered")
    if not 0 <= count <= len(left.shape):
        context.refuse("its output rank %d is more than its weights have" % count)
    reduced = len(left.shape) - count
    return _product(context, left, right, reduced, count)


def _transpose_times(context: TranslationContext) -> Value:
    """Like Times, but the left operand is transposed: [out…, reduced…]."""
    left, right = context.take(2)
    count = context.attribute("outputRank", int, 1)
    if len(left.shape) == 1:  # CNTK reads a vector as a row
        left = context.reshape(left, (1, *left.shape))
    if len(left.shape) != 2 or count != 1:
        context.refuse("its left operand has more than two axes, which is not covered")
    return _product(context, context.transpose(left, (1, 0)), right, 1, 1)


def _product(context: TranslationContext, left: Value, right: Value, reduced: int, count: int) -> Value:
    if reduced > len(right.shape) or left.shape[:reduced] != right.shape[len(right.shape) - reduced :]:
        context.refuse("its operands have the shapes %s and %s, which do not match" % (right.shape, left.shape))
    inner = context.static_product(left.shape[:reduced])
    rest, out = right.shape[: len(right.shape) - reduced], left.shape[reduced:]
    axes = context.shared_axes([left, right])
    weights = context.reshape(left, (inner, context.static_product(out)))
    if not left.axes and len(right.shape) == 1 and right.axes:
        rows = right  # the common case, [N, inner] @ [inner, out]
    else:
        rows = context.reshape(right, (context.static_product(rest), inner))
    shape = rows.shape[:-1] + weights.shape[1:]
    product = context.value(context.emit("MatMul", context.tensor(rows), context.tensor(weights)), shape, axes)
    return context.reshape(product, rest + out)


def _gather(context: TranslationContext) -> Value:
    """Look up rows of the second input by the indices in the first."""
    indices, reference = context.take(2)
    axis = context.function.attributes.get("axis")
    if reference.axes or not reference.shape:
        context.refuse("it looks up in something else than a parameter, which is not covered")
    if axis is not None and context.existing_axis(axis, len(reference.shape)) != 0:
        context.refuse("it looks up along another axis than the first, which is not covered")
    if reference.shape[0] < 1:
        context.refuse("it looks up rows of an empty parameter")
    numbers = context.emit("Cast", context.tensor(indices), to=TensorProto.INT64)
    # ONNX's Gather counts negative indices from the end. They must be an error, so they become one that is too large.
    zero, too_large = (context.graph.constant(np.array(size, np.int64)) for size in (0, reference.shape[0]))
    numbers = context.emit("Where", context.emit("Less", numbers, zero), too_large, numbers)
    found = context.emit("Gather", context.tensor(reference), numbers, axis=0)
    return context.value(found, indices.shape + reference.shape[1:], indices.axes)


def _one_hot(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    count, axis = context.attribute("numClass", int), context.function.attributes.get("onehotAxis")
    rank = len(x.shape) + 1
    index = rank - 1 if axis is None else context.existing_axis(axis, rank)
    if not 0 < count <= _MAX_CLASSES:
        context.refuse("it has %d classes, and from 1 to %d are supported" % (count, _MAX_CLASSES))
    numbers = context.emit("Cast", context.tensor(x), to=TensorProto.INT64)
    # Not ONNX's OneHot, for which -1 is the last class. In CNTK it is no class.
    classes = np.arange(count).reshape([count] + [1] * (rank - 1 - index))
    unsqueezed = context.emit("Unsqueeze", numbers, context.graph.sizes(x.lead + index))
    is_class = context.emit("Equal", unsqueezed, context.graph.constant(classes.astype(np.int64), "classes"))
    found = context.emit("Cast", is_class, to=context.onnx_type)
    return context.value(found, (*x.shape[:index], count, *x.shape[index:]), x.axes)


def _batch_normalization(context: TranslationContext) -> Value:
    """Normalize with the stored mean and variance, as a multiplication and an addition per value or channel."""
    if not 5 <= len(context.inputs) <= 6:
        context.refuse("it has %d inputs, but must have 5 or 6" % len(context.inputs))
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
    elif factor.size == context.static_product(x.shape):
        shape = x.shape
    else:
        context.refuse("it has %d values and its input %s" % (factor.size, list(x.shape)))
    named = [
        context.graph.constant(array.astype(context.dtype).reshape(shape), context.name + "_" + what)
        for array, what in ((factor, "factor"), (summand, "summand"))
    ]
    return context.value(
        context.emit("Add", context.emit("Mul", context.tensor(x), named[0]), named[1]), x.shape, x.axes
    )


TRANSLATORS: Dict[str, Callable[[TranslationContext], Value]] = {
    "Times": _times,
    "TransposeTimes": _transpose_times,
    "Gather": _gather,
    "OneHot": _one_hot,
    "BatchNormalization": _batch_normalization,
}
