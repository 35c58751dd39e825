"""Products, look-ups, and normalisation by stored statistics."""

from typing import Callable, Dict

import numpy as np

from ..site import Site
from ..values import Value

# How `inferInputRankToMap` says that a product also sums over the sequence.
_OVER_SEQUENCE = -2
# A file of a few bytes could ask for any number, each of which takes eight bytes here.
_MAX_CLASSES = 10_000_000


def _times(site: Site) -> Value:
    """Row-major: right [rest…, reduced…] times left [reduced…, out…] gives [rest…, out…]."""
    left, right = site.take(2)
    count = site.attribute("outputRank", int, 1)
    if site.attribute("inferInputRankToMap", int, -1) == _OVER_SEQUENCE:
        site.refuse("it sums over a sequence, which is not covered")
    if not 0 <= count <= len(left.shape):
        site.refuse("its output rank %d is more than its weights have" % count)
    reduced = len(left.shape) - count
    return _product(site, left, right, reduced, count)


def _transpose_times(site: Site) -> Value:
    """The same with left's axes the other way round: [out…, reduced…]."""
    left, right = site.take(2)
    count = site.attribute("outputRank", int, 1)
    if len(left.shape) == 1:  # a vector is a row then
        left = site.reshape(left, (1, *left.shape))
    if len(left.shape) != 2 or count != 1:
        site.refuse("its left operand has more than two axes, which is not covered")
    return _product(site, site.transpose(left, (1, 0)), right, 1, 1)


def _product(site: Site, left: Value, right: Value, reduced: int, count: int) -> Value:
    if reduced > len(right.shape) or left.shape[:reduced] != right.shape[len(right.shape) - reduced :]:
        site.refuse("its operands of shapes %s and %s do not go together" % (right.shape, left.shape))
    inner = site.definite(left.shape[:reduced])
    rest, out = right.shape[: len(right.shape) - reduced], left.shape[reduced:]
    axes = site.shared_axes([left, right])
    weights = site.reshape(left, (inner, site.definite(out)))
    if not left.axes and len(right.shape) == 1 and right.axes:
        rows = right  # [N, inner] @ [inner, out]: the usual case
    else:
        rows = site.reshape(right, (site.definite(rest), inner))
    shape = rows.shape[:-1] + weights.shape[1:]
    product = site.value(site.emit("MatMul", site.name(rows), site.name(weights)), shape, axes)
    return site.reshape(product, rest + out)


def _gather(site: Site) -> Value:
    """Rows of the second by the numbers in the first."""
    indices, reference = site.take(2)
    axis = site.function.attributes.get("axis")
    if reference.axes or not reference.shape:
        site.refuse("it looks up in what is no parameter, which is not covered")
    place = 0 if axis is None else site.existing_axis(axis, len(reference.shape))
    if place != 0:
        site.refuse("it looks up along another axis than the first, which is not covered")
    if reference.shape[0] < 1:
        site.refuse("it looks up in nothing")
    numbers = site.emit("Cast", site.name(indices), to=7)
    # ONNX counts what is below 0 from the end; here it is as wrong as what is beyond it.
    zero, beyond = (site.graph.constant(np.array(size, np.int64)) for size in (0, reference.shape[0]))
    numbers = site.emit("Where", site.emit("Less", numbers, zero), beyond, numbers)
    found = site.emit("Gather", site.name(reference), numbers, axis=0)
    return site.value(found, indices.shape + reference.shape[1:], indices.axes)


def _one_hot(site: Site) -> Value:
    (x,) = site.take(1)
    count, axis = site.attribute("numClass", int), site.function.attributes.get("onehotAxis")
    rank = len(x.shape) + 1
    place = rank - 1 if axis is None else site.existing_axis(axis, rank)
    if not 0 < count <= _MAX_CLASSES:
        site.refuse("it has %d classes" % count)
    numbers = site.emit("Cast", site.name(x), to=7)
    # Not ONNX's OneHot, for which -1 is the last class: it is none here.
    classes = np.arange(count).reshape([count] + [1] * (rank - 1 - place))
    spread = site.emit("Unsqueeze", numbers, site.graph.sizes(x.lead + place))
    is_class = site.emit("Equal", spread, site.graph.constant(classes.astype(np.int64), "classes"))
    found = site.emit("Cast", is_class, to=site.onnx_type)
    return site.value(found, (*x.shape[:place], count, *x.shape[place:]), x.axes)


def _batch_normalization(site: Site) -> Value:
    """With the stored mean and variance, as in serving: one factor and one summand for each value or channel."""
    if not 5 <= len(site.inputs) <= 6:
        site.refuse("it has %d inputs where 5 or 6 are known" % len(site.inputs))
    x, *stored = site.inputs[:5]
    arrays = [each.array for each in stored]
    if any(array is None for array in arrays):
        site.refuse("its mean, variance, scale or bias is computed, which is not covered")
    wide = [np.asarray(array, np.float64) for array in arrays]
    epsilon = site.attribute("epsilon", float)
    scale, bias, mean, variance = wide
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
        summand = bias - mean * factor
    if site.attribute("spatial", bool):
        if not x.shape or factor.size not in (1, x.shape[0]):
            site.refuse("it has %d channels and its input %s" % (factor.size, list(x.shape)))
        shape = (factor.size,) + (1,) * (len(x.shape) - 1)
    elif factor.size == site.definite(x.shape):
        shape = x.shape
    else:
        site.refuse("it has %d values and its input %s" % (factor.size, list(x.shape)))
    named = [
        site.graph.constant(array.astype(site.dtype).reshape(shape), site.called + "_" + what)
        for array, what in ((factor, "factor"), (summand, "summand"))
    ]
    return site.value(site.emit("Add", site.emit("Mul", site.name(x), named[0]), named[1]), x.shape, x.axes)


TRANSLATORS: Dict[str, Callable[[Site], Value]] = {
    "Times": _times,
    "TransposeTimes": _transpose_times,
    "Gather": _gather,
    "OneHot": _one_hot,
    "BatchNormalization": _batch_normalization,
}
