"""Operations that move values and compute nothing."""

from typing import Callable, Dict, List, Tuple

from ..context import TranslationContext
from ..dictionary import Axis, Shape
from ..values import Value

_INT64_MAX = 2**63 - 1


def _reshape(context: TranslationContext) -> Value:
    """`newShape` in place of the axes from beginAxis up to endAxis, of CNTK's order."""
    (x,) = context.take(1)
    rank = len(x.shape)
    begin = _end_of(context, "beginAxis", rank, 0)
    end = _end_of(context, "endAxis", rank, rank)
    if not 0 <= begin <= end <= rank:
        context.refuse("it reshapes axes from %d to %d of %d" % (begin, end, rank))
    sizes = x.shape[::-1]
    new = [size if size > -2 else -1 for size in context.attribute("newShape", Shape)]
    if 0 in new:
        context.refuse("it makes an axis of size 0")
    replaced = sizes[begin:end]
    if new.count(-1) == 1 and -1 not in replaced:
        inner, rest = context.definite(replaced), context.definite([size for size in new if size > 0])
        if inner % rest:
            context.refuse("%d values do not fill the shape %s" % (inner, new[::-1]))
        new[new.index(-1)] = inner // rest
    if -1 not in new and -1 not in replaced and context.definite(new) != context.definite(replaced):
        context.refuse("%s does not hold as many values as %s" % (new[::-1], list(replaced[::-1])))
    whole = (*sizes[:begin], *new, *sizes[end:])
    return context.reshape(x, whole[::-1])


def _end_of(context: TranslationContext, name: str, rank: int, default: int) -> int:
    """An axis in CNTK's order, which may be the end."""
    axis = context.function.attributes.get(name)
    if axis is None:
        return default
    if not isinstance(axis, Axis) or abs(axis.index) > 1000:
        context.refuse("its attribute '%s' is no static axis" % name)
    return axis.index + rank + 1 if axis.index < 0 else axis.index


def _squeeze(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    axes = _listed(context, "axis", "axisVec", None)
    places = range(len(x.shape)) if axes is None else [context.existing_axis(axis, len(x.shape)) for axis in axes]
    gone = [place for place in places if x.shape[place] == 1]
    if axes is not None and len(gone) != len(axes):
        context.refuse("it squeezes an axis that is not 1 long")
    return context.reshape(x, [size for place, size in enumerate(x.shape) if place not in gone])


def _transpose(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    rank = len(x.shape)
    order = list(range(rank))
    if "axisVec" in context.function.attributes:
        axes = _axes(context, context.attribute("axisVec", list))
        # CNTK lists, from its first axis on, which one comes there.
        order = [context.existing_axis(axis, rank) for axis in axes][::-1]
        if sorted(order) != list(range(rank)):
            context.refuse("it lists %s of %d axes" % (order, rank))
    else:
        one, other = (context.existing_axis(context.attribute(name, Axis), rank) for name in ("axis1", "axis2"))
        order[one], order[other] = order[other], order[one]
    return context.transpose(x, order)


def _slice(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    axes = _listed(context, "axis", "axisVec", [])
    begins = _listed_numbers(context, "beginIndex", len(axes))
    ends = _listed_numbers(context, "endIndex", len(axes))
    strides = _listed_numbers(context, "sliceStrides", len(axes), 1)
    shape, rank = list(x.shape), len(x.shape)
    places = [context.existing_axis(axis, rank) for axis in axes]
    if len(set(places)) != len(places):
        context.refuse("it slices one axis twice")
    pairs = []
    for place, begin, end, stride in zip(places, begins, ends, strides):
        size = x.shape[place]
        if size < 0:
            context.refuse("it slices an axis whose size only a request tells, which is not covered")
        if not stride:
            context.refuse("it slices in steps of 0")
        first, last = begin if begin >= 0 else begin + size, end if end > 0 else end + size
        if not 0 <= first < last <= size:
            context.refuse("it slices from %d to %d where there are %d" % (begin, end, size))
        # Backwards, CNTK takes the same range from its end on.
        pairs.append((first, last) if stride > 0 else (last - 1, first - 1 if first else -_INT64_MAX))
        shape[place] = (last - first - 1) // abs(stride) + 1
    sizes = context.graph.sizes
    name = context.emit(
        "Slice", context.name(x), sizes(*(first for first, _ in pairs)), sizes(*(last for _, last in pairs)),
        sizes(*(x.lead + place for place in places)), sizes(*strides),
    )  # fmt: skip
    return context.value(name, shape, x.axes)


def _splice(context: TranslationContext) -> Value:
    """Along an axis, which may be a new one."""
    values = context.inputs
    if not values:
        context.refuse("it has no inputs")
    axis, rank = context.attribute("axis", Axis), max(len(value.shape) for value in values)
    place = context.axis(axis, rank)
    if place < 0:  # one beyond CNTK's last is one before the first here
        rank -= place
        place = 0
    if rank > 16 or place >= rank:
        context.refuse("it splices along an axis that cannot be")
    axes = context.shared_axes(values)
    values = [context.reshape(value, (1,) * (rank - len(value.shape)) + value.shape) for value in values]
    shape = list(values[0].shape)
    for value in values[1:]:
        for each in range(rank):
            if each == place:
                shape[each] = -1 if -1 in (shape[each], value.shape[each]) else shape[each] + value.shape[each]
            elif shape[each] != value.shape[each]:
                context.refuse("its inputs differ in another axis than the one that it splices")
    names = [_with_axes(context, value, axes, values) for value in values]
    return context.value(context.emit("Concat", *names, axis=len(axes) + place), shape, axes)


def _with_axes(context: TranslationContext, value: Value, axes: Tuple[str, ...], values: List[Value]) -> str:
    """The tensor, repeated for every row where it has none."""
    name = context.name(value)
    if value.axes == axes:
        return name
    like = next(each for each in values if each.axes == axes)
    ends = context.emit("Shape", context.name(like), end=len(axes))
    whole = context.emit("Concat", ends, context.graph.sizes(*value.shape), axis=0) if value.shape else ends
    return context.emit("Expand", name, whole)


def _pad(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    modes = {0: "constant", 1: "reflect"}
    mode = context.attribute("paddingMode", int)
    if mode not in modes:
        context.refuse("it pads symmetrically, which is not covered")
    head, foot = (_numbers(context, context.attribute(name, list)) for name in ("paddingHead", "paddingFoot"))
    if len(head) != len(x.shape) or len(foot) != len(x.shape) or min([*head, *foot], default=0) < 0:
        context.refuse("it pads %d axes of %d" % (len(head), len(x.shape)))
    head, foot = head[::-1], foot[::-1]
    none = [0] * x.lead
    filled = context.graph.scalar(context.attribute("paddingConstantValue", float, 0.0), context.dtype)
    shape = [size + before + after if size >= 0 else -1 for size, before, after in zip(x.shape, head, foot)]
    name = context.emit(
        "Pad", context.name(x), context.graph.sizes(*none, *head, *none, *foot), filled, mode=modes[mode]
    )
    return context.value(name, shape, x.axes)


def _listed(context: TranslationContext, one: str, several: str, default: object) -> list:
    """Axes, which CNTK writes alone or in a list."""
    if several in context.function.attributes:
        return _axes(context, context.attribute(several, list))
    return [context.attribute(one, Axis)] if one in context.function.attributes else default


def _axes(context: TranslationContext, values: list) -> List[Axis]:
    if not all(isinstance(value, Axis) for value in values):
        context.refuse("its axes are not what CNTK 2.7 writes")
    return values


def _listed_numbers(context: TranslationContext, name: str, count: int, *default: int) -> List[int]:
    if name + "Vec" in context.function.attributes:
        numbers = _numbers(context, context.attribute(name + "Vec", list))
    else:
        numbers = [context.attribute(name, int, *default)] * count
    if len(numbers) != count:
        context.refuse("'%s' has %d values for %d axes" % (name, len(numbers), count))
    return numbers


def _numbers(context: TranslationContext, values: list) -> List[int]:
    if not all(isinstance(value, int) and abs(value) < 1 << 31 for value in values):
        context.refuse("a list of numbers in it is not what CNTK 2.7 writes")
    return [int(value) for value in values]


TRANSLATORS: Dict[str, Callable[[TranslationContext], Value]] = {
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "TransposeAxes": _transpose,
    "Slice": _slice,
    "Splice": _splice,
    "Pad": _pad,
}
