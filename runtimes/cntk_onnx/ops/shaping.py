"""Operations that move values and compute nothing."""

from typing import Callable, Dict, List, Tuple

from ..dictionary import Axis, Shape
from ..site import Site
from ..values import Value

_INT64_MAX = 2**63 - 1


def _reshape(site: Site) -> Value:
    """`newShape` in place of the axes from beginAxis up to endAxis, of CNTK's order."""
    (x,) = site.take(1)
    rank = len(x.shape)
    begin = _end_of(site, "beginAxis", rank, 0)
    end = _end_of(site, "endAxis", rank, rank)
    if not 0 <= begin <= end <= rank:
        site.refuse("it reshapes axes from %d to %d of %d" % (begin, end, rank))
    sizes = x.shape[::-1]
    new = [size if size > -2 else -1 for size in site.attribute("newShape", Shape)]
    if 0 in new:
        site.refuse("it makes an axis of size 0")
    replaced = sizes[begin:end]
    if new.count(-1) == 1 and -1 not in replaced:
        inner, rest = site.definite(replaced), site.definite([size for size in new if size > 0])
        if inner % rest:
            site.refuse("%d values do not fill the shape %s" % (inner, new[::-1]))
        new[new.index(-1)] = inner // rest
    if -1 not in new and -1 not in replaced and site.definite(new) != site.definite(replaced):
        site.refuse("%s does not hold as many values as %s" % (new[::-1], list(replaced[::-1])))
    whole = (*sizes[:begin], *new, *sizes[end:])
    return site.reshape(x, whole[::-1])


def _end_of(site: Site, name: str, rank: int, default: int) -> int:
    """An axis in CNTK's order, which may be the end."""
    axis = site.function.attributes.get(name)
    if axis is None:
        return default
    if not isinstance(axis, Axis) or abs(axis.index) > 1000:
        site.refuse("its attribute '%s' is no static axis" % name)
    return axis.index + rank + 1 if axis.index < 0 else axis.index


def _squeeze(site: Site) -> Value:
    (x,) = site.take(1)
    axes = _listed(site, "axis", "axisVec", None)
    places = range(len(x.shape)) if axes is None else [site.existing_axis(axis, len(x.shape)) for axis in axes]
    gone = [place for place in places if x.shape[place] == 1]
    if axes is not None and len(gone) != len(axes):
        site.refuse("it squeezes an axis that is not 1 long")
    return site.reshape(x, [size for place, size in enumerate(x.shape) if place not in gone])


def _transpose(site: Site) -> Value:
    (x,) = site.take(1)
    rank = len(x.shape)
    order = list(range(rank))
    if "axisVec" in site.function.attributes:
        axes = _axes(site, site.attribute("axisVec", list))
        # CNTK lists, from its first axis on, which one comes there.
        order = [site.existing_axis(axis, rank) for axis in axes][::-1]
        if sorted(order) != list(range(rank)):
            site.refuse("it lists %s of %d axes" % (order, rank))
    else:
        one, other = (site.existing_axis(site.attribute(name, Axis), rank) for name in ("axis1", "axis2"))
        order[one], order[other] = order[other], order[one]
    return site.transpose(x, order)


def _slice(site: Site) -> Value:
    (x,) = site.take(1)
    axes = _listed(site, "axis", "axisVec", [])
    begins = _listed_numbers(site, "beginIndex", len(axes))
    ends = _listed_numbers(site, "endIndex", len(axes))
    strides = _listed_numbers(site, "sliceStrides", len(axes), 1)
    shape, rank = list(x.shape), len(x.shape)
    places = [site.existing_axis(axis, rank) for axis in axes]
    if len(set(places)) != len(places):
        site.refuse("it slices one axis twice")
    pairs = []
    for place, begin, end, stride in zip(places, begins, ends, strides):
        size = x.shape[place]
        if size < 0:
            site.refuse("it slices an axis whose size only a request tells, which is not covered")
        if not stride:
            site.refuse("it slices in steps of 0")
        first, last = begin if begin >= 0 else begin + size, end if end > 0 else end + size
        if not 0 <= first < last <= size:
            site.refuse("it slices from %d to %d where there are %d" % (begin, end, size))
        # Backwards, CNTK takes the same range from its end on.
        pairs.append((first, last) if stride > 0 else (last - 1, first - 1 if first else -_INT64_MAX))
        shape[place] = (last - first - 1) // abs(stride) + 1
    sizes = site.graph.sizes
    name = site.emit(
        "Slice", site.name(x), sizes(*(first for first, _ in pairs)), sizes(*(last for _, last in pairs)),
        sizes(*(x.lead + place for place in places)), sizes(*strides),
    )  # fmt: skip
    return site.value(name, shape, x.axes)


def _splice(site: Site) -> Value:
    """Along an axis, which may be a new one."""
    values = site.inputs
    if not values:
        site.refuse("it has no inputs")
    axis, rank = site.attribute("axis", Axis), max(len(value.shape) for value in values)
    place = site.axis(axis, rank)
    if place < 0:  # one beyond CNTK's last is one before the first here
        rank -= place
        place = 0
    if rank > 16 or place >= rank:
        site.refuse("it splices along an axis that cannot be")
    axes = site.shared_axes(values)
    values = [site.reshape(value, (1,) * (rank - len(value.shape)) + value.shape) for value in values]
    shape = list(values[0].shape)
    for value in values[1:]:
        for each in range(rank):
            if each == place:
                shape[each] = -1 if -1 in (shape[each], value.shape[each]) else shape[each] + value.shape[each]
            elif shape[each] != value.shape[each]:
                site.refuse("its inputs differ in another axis than the one that it splices")
    names = [_with_axes(site, value, axes, values) for value in values]
    return site.value(site.emit("Concat", *names, axis=len(axes) + place), shape, axes)


def _with_axes(site: Site, value: Value, axes: Tuple[str, ...], values: List[Value]) -> str:
    """The tensor, repeated for every row where it has none."""
    name = site.name(value)
    if value.axes == axes:
        return name
    like = next(each for each in values if each.axes == axes)
    ends = site.emit("Shape", site.name(like), end=len(axes))
    whole = site.emit("Concat", ends, site.graph.sizes(*value.shape), axis=0) if value.shape else ends
    return site.emit("Expand", name, whole)


def _pad(site: Site) -> Value:
    (x,) = site.take(1)
    modes = {0: "constant", 1: "reflect"}
    mode = site.attribute("paddingMode", int)
    if mode not in modes:
        site.refuse("it pads symmetrically, which is not covered")
    head, foot = (_numbers(site, site.attribute(name, list)) for name in ("paddingHead", "paddingFoot"))
    if len(head) != len(x.shape) or len(foot) != len(x.shape) or min([*head, *foot], default=0) < 0:
        site.refuse("it pads %d axes of %d" % (len(head), len(x.shape)))
    head, foot = head[::-1], foot[::-1]
    none = [0] * x.lead
    filled = site.graph.scalar(site.attribute("paddingConstantValue", float, 0.0), site.dtype)
    shape = [size + before + after if size >= 0 else -1 for size, before, after in zip(x.shape, head, foot)]
    name = site.emit("Pad", site.name(x), site.graph.sizes(*none, *head, *none, *foot), filled, mode=modes[mode])
    return site.value(name, shape, x.axes)


def _listed(site: Site, one: str, several: str, default: object) -> list:
    """Axes, which CNTK writes alone or in a list."""
    if several in site.function.attributes:
        return _axes(site, site.attribute(several, list))
    return [site.attribute(one, Axis)] if one in site.function.attributes else default


def _axes(site: Site, values: list) -> List[Axis]:
    if not all(isinstance(value, Axis) for value in values):
        site.refuse("its axes are not what CNTK 2.7 writes")
    return values


def _listed_numbers(site: Site, name: str, count: int, *default: int) -> List[int]:
    if name + "Vec" in site.function.attributes:
        numbers = _numbers(site, site.attribute(name + "Vec", list))
    else:
        numbers = [site.attribute(name, int, *default)] * count
    if len(numbers) != count:
        site.refuse("'%s' has %d values for %d axes" % (name, len(numbers), count))
    return numbers


def _numbers(site: Site, values: list) -> List[int]:
    if not all(isinstance(value, int) and abs(value) < 1 << 31 for value in values):
        site.refuse("a list of numbers in it is not what CNTK 2.7 writes")
    return [int(value) for value in values]


TRANSLATORS: Dict[str, Callable[[Site], Value]] = {
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "TransposeAxes": _transpose,
    "Slice": _slice,
    "Splice": _splice,
    "Pad": _pad,
}
