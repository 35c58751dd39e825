"""Operations that rearrange values without computing."""

from typing import Callable, Dict, List, Tuple

from ..context import TranslationContext
from ..dictionary import Axis, Shape
from ..values import Value

_INT64_MAX = 2**63 - 1


def _reshape(context: TranslationContext) -> Value:
    """Replace the axes from `beginAxis` up to `endAxis`, in CNTK's order, by `newShape`."""
    (x,) = context.take(1)
    rank = len(x.shape)
    begin = _end_of(context, "beginAxis", rank, 0)
    end = _end_of(context, "endAxis", rank, rank)
    if not 0 <= begin <= end <= rank:
        context.refuse("it reshapes axes from %d to %d of %d" % (begin, end, rank))
    sizes = x.shape[::-1]
    new = [size if size > -2 else -1 for size in context.attribute("newShape", Shape)]
    if 0 in new:
        context.refuse("its new shape has a size of 0")
    replaced = sizes[begin:end]
    if new.count(-1) == 1 and -1 not in replaced:
        inner, rest = context.static_product(replaced), context.static_product([size for size in new if size > 0])
        if inner % rest:
            context.refuse("%d values do not fill the shape %s" % (inner, new[::-1]))
        new[new.index(-1)] = inner // rest
    if -1 not in new and -1 not in replaced and context.static_product(new) != context.static_product(replaced):
        context.refuse("%s does not hold as many values as %s" % (new[::-1], list(replaced[::-1])))
    whole = (*sizes[:begin], *new, *sizes[end:])
    return context.reshape(x, whole[::-1])


def _end_of(context: TranslationContext, name: str, rank: int, default: int) -> int:
    """Return the index of an axis in CNTK's order; `rank` is the end."""
    axis = context.function.attributes.get(name)
    if axis is None:
        return default
    if not isinstance(axis, Axis) or abs(axis.index) > 1000:
        context.refuse("its attribute '%s' is not a static axis" % name)
    return axis.index + rank + 1 if axis.index < 0 else axis.index


def _squeeze(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    axes = _listed(context, "axis", "axisVec", None)
    indices = range(len(x.shape)) if axes is None else [context.existing_axis(axis, len(x.shape)) for axis in axes]
    removed = [index for index in indices if x.shape[index] == 1]
    if axes is not None and len(removed) != len(axes):
        context.refuse("it squeezes an axis whose size is not 1")
    return context.reshape(x, [size for index, size in enumerate(x.shape) if index not in removed])


def _transpose(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    rank = len(x.shape)
    order = list(range(rank))
    if "axisVec" in context.function.attributes:
        axes = _axes(context, context.attribute("axisVec", list))
        # CNTK lists, for each of its axes, the one that moves there.
        order = [context.existing_axis(axis, rank) for axis in axes][::-1]
        if sorted(order) != list(range(rank)):
            context.refuse("%s is not a permutation of its %d axes" % (order, rank))
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
    indices = [context.existing_axis(axis, rank) for axis in axes]
    if len(set(indices)) != len(indices):
        context.refuse("it slices one axis twice")
    pairs = []
    for axis, begin, end, stride in zip(indices, begins, ends, strides):
        size = x.shape[axis]
        if size < 0:
            context.refuse("it slices an axis whose size is dynamic, which is not covered")
        if not stride:
            context.refuse("it slices with a stride of 0")
        first, last = begin if begin >= 0 else begin + size, end if end > 0 else end + size
        if not 0 <= first < last <= size:
            context.refuse("it slices from %d to %d along a size of %d" % (begin, end, size))
        # With a negative stride, CNTK walks the same range from its end.
        pairs.append((first, last) if stride > 0 else (last - 1, first - 1 if first else -_INT64_MAX))
        shape[axis] = (last - first - 1) // abs(stride) + 1
    sizes = context.graph.sizes
    name = context.emit(
        "Slice", context.tensor(x), sizes(*(first for first, _ in pairs)), sizes(*(last for _, last in pairs)),
        sizes(*(x.lead + axis for axis in indices)), sizes(*strides),
    )  # fmt: skip
    return context.value(name, shape, x.axes)


def _splice(context: TranslationContext) -> Value:
    """Concatenate along an axis, which may be a new one."""
    values = context.inputs
    if not values:
        context.refuse("it has no inputs")
    rank = max(len(value.shape) for value in values)
    axis = context.axis(context.attribute("axis", Axis), rank)
    if axis < 0:  # a new axis after CNTK's last one, which is before the first one here
        rank -= axis
        axis = 0
    if rank > 16 or axis >= rank:
        context.refuse("it splices along an axis that its inputs cannot have")
    axes = context.shared_axes(values)
    values = [context.reshape(value, (1,) * (rank - len(value.shape)) + value.shape) for value in values]
    shape = list(values[0].shape)
    for value in values[1:]:
        for each in range(rank):
            if each == axis:
                shape[each] = -1 if -1 in (shape[each], value.shape[each]) else shape[each] + value.shape[each]
            elif shape[each] != value.shape[each]:
                context.refuse("its inputs also differ in another axis than the one that it splices")
    names = [_with_axes(context, value, axes, values) for value in values]
    return context.value(context.emit("Concat", *names, axis=len(axes) + axis), shape, axes)


def _with_axes(context: TranslationContext, value: Value, axes: Tuple[str, ...], values: List[Value]) -> str:
    """Return the value's tensor, repeated for each row if it has no dynamic axes."""
    name = context.tensor(value)
    if value.axes == axes:
        return name
    like = next(each for each in values if each.axes == axes)
    ends = context.emit("Shape", context.tensor(like), end=len(axes))
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
        context.refuse("it pads %d axes, and its input has %d" % (len(head), len(x.shape)))
    head, foot = head[::-1], foot[::-1]
    none = [0] * x.lead
    filled = context.graph.scalar(context.attribute("paddingConstantValue", float, 0.0), context.dtype)
    shape = [size + before + after if size >= 0 else -1 for size, before, after in zip(x.shape, head, foot)]
    name = context.emit(
        "Pad", context.tensor(x), context.graph.sizes(*none, *head, *none, *foot), filled, mode=modes[mode]
    )
    return context.value(name, shape, x.axes)


def _listed(context: TranslationContext, one: str, several: str, default: object) -> list:
    """Return a list of axes, of which CNTK writes a single one without a list."""
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
