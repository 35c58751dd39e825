"""Operations along a sequence's axis. All sequences of one request are of one length: nothing is masked."""

from typing import Callable, Dict, List

import numpy as np

from ..dictionary import Axis
from ..functions import BATCH
from ..site import Site
from ..values import Value

_INT64 = 7


def _sequence(site: Site, value: Value) -> Value:
    if value.lead != 2:
        site.refuse("its input is no sequence here, which is not covered")
    return value


def _shifted(site: Site) -> Value:
    """PastValue and FutureValue outside of loops: the sequence moved, with what stands before or after it."""
    x, before = site.take(2)
    _sequence(site, x)
    offset, past = site.attribute("offset", int), site.function.op == "PastValue"
    if not 0 < offset < 1 << 31:
        site.refuse("it moves by %d" % offset)
    filled = initial(site, before, x, x.shape, offset)
    moved = site.emit("Concat", *((filled, site.name(x)) if past else (site.name(x), filled)), axis=1)
    sizes = site.graph.sizes
    begin, end = (sizes(0), sizes(-offset)) if past else (sizes(offset), sizes(np.iinfo(np.int64).max))
    return site.value(site.emit("Slice", moved, begin, end, sizes(1)), x.shape, x.axes)


def initial(site: Site, value: Value, like: Value, shape: List[int], steps: int = 0) -> str:
    """What stands before a sequence, for each of `like`'s rows: [rows, steps…, shape…]."""
    if value.lead > 1:
        site.refuse("what stands before its sequence is a sequence itself, which is not covered")
    if len(value.shape) > len(shape) or any(
        size not in (1, wanted) for size, wanted in zip(value.shape[::-1], shape[::-1])
    ):
        site.refuse("what stands before its sequence has the shape %s, and it %s" % (value.shape, list(shape)))
    site.definite(shape)
    if value.axes:
        value = site.reshape(value, (1,) * (len(shape) - len(value.shape) + bool(steps)) + value.shape)
    rows = site.emit("Shape", site.name(like), start=0, end=1)
    sizes = ([steps] if steps else []) + list(shape)
    whole = site.emit("Concat", rows, site.graph.sizes(*sizes), axis=0) if sizes else rows
    return site.emit("Expand", site.name(value), whole)


def _reconciled(site: Site) -> Value:
    """The first for each step of the second."""
    x, like = site.take(2)
    if x.axes == like.axes:
        return x
    if x.lead > 1 or (x.lead and like.lead < 2):
        site.refuse("its inputs have different dynamic axes")
    site.definite(x.shape)
    if x.lead:
        x = site.reshape(x, (1, *x.shape))._replace(shape=x.shape)
    ends = site.emit("Shape", site.name(like), start=0, end=like.lead)
    whole = site.emit("Concat", ends, site.graph.sizes(*x.shape), axis=0) if x.shape else ends
    name = site.emit("Expand", site.name(x), whole)
    return site.value(name, x.shape, like.axes)._replace(uniform=site.inputs[0].uniform)


def _unpacked(site: Site) -> List[Value]:
    """The sequence as a static axis, and a mask of ones unless it is suppressed."""
    (x,) = site.take(1)
    _sequence(site, x)
    found = [x._replace(shape=(-1, *x.shape), axes=x.axes[:1])]
    if not site.attribute("sequenceUnpackSuppressMaskOutput", bool, False):
        ends = site.emit("Shape", site.name(x), start=0, end=2)
        ones = site.emit("Expand", site.graph.scalar(1, site.dtype), ends)
        found.append(site.value(ones, (-1,), x.axes[:1]))
    return found


def _to_sequence(site: Site) -> Value:
    if len(site.inputs) != 1:
        site.refuse("its sequences have lengths of their own, which is not covered")
    (x,) = site.inputs
    if site.graph.inside or x.lead != 1 or not x.shape:
        site.refuse("it makes a sequence of what has no axis for it")
    return x._replace(shape=x.shape[1:], axes=(x.axes[0], "sequence_of_" + site.function.uid))


def _to_sequence_like(site: Site) -> Value:
    x, like = site.take(2)
    _sequence(site, like)
    if site.graph.inside or x.lead != 1 or not x.shape:
        site.refuse("it makes a sequence of what has no axis for it")
    return x._replace(shape=x.shape[1:], axes=like.axes)


def _where(site: Site) -> Value:
    """The places that are not 0, which must be the same for every row."""
    (x,) = site.take(1)
    _sequence(site, x)
    if not x.uniform or x.shape not in ((), (1,)):
        site.refuse("it chooses places by values, so that sequences would differ in length, which is not covered")
    told = site.attribute("newDynamicAxes", list)
    axes = tuple(axis.name for axis in reversed(told) if isinstance(axis, Axis))
    if axes[:1] != (BATCH,) or len(axes) > 2:
        site.refuse("it makes the dynamic axes %s, which are not covered" % ", ".join(axes))
    first = site.emit("Reshape", site.name(x), site.graph.sizes(0, 0)) if x.shape else site.name(x)
    row = site.emit("Gather", first, site.graph.constant(np.array(0, np.int64), "zero"), axis=0)
    places = site.emit("Squeeze", site.emit("NonZero", row), site.graph.sizes(0))
    if len(axes) == 1:
        # CNTK knows that it is one.
        places = site.emit("Reshape", places, site.graph.sizes(1))
    cast = site.emit("Cast", places, to=site.onnx_type)
    rows = site.emit("Shape", site.name(x), start=0, end=1)
    count = site.emit("Concat", rows, site.emit("Shape", places), axis=0) if len(axes) == 2 else rows
    return site.value(site.emit("Expand", cast, count), (), axes)


def _packed_index(site: Site) -> Value:
    source, places = site.take(2)
    _sequence(site, source)
    return places


def _gather_packed(site: Site) -> Value:
    source, places = site.take(2)
    _sequence(site, source)
    if not places.uniform or places.shape:
        site.refuse("it chooses places by values, so that sequences would differ in length, which is not covered")
    zero = site.graph.constant(np.array(0, np.int64), "zero")
    row = site.emit("Cast", site.emit("Gather", site.name(places), zero, axis=0), to=_INT64)
    name = site.emit("Gather", site.name(source), row, axis=1)
    return site.value(name, source.shape, places.axes)._replace(uniform=source.uniform)


TRANSLATORS: Dict[str, Callable[[Site], object]] = {
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
