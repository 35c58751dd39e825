"""Operations along axes: sums, extremes, softmax, the best."""

from typing import Callable, Dict, List

from runtimes.onnx.graph import TYPES

from ..dictionary import Axis
from ..site import Site
from ..values import Value

_ALL_STATIC = "AllStaticAxes"
_OPS = {
    "Mean": "ReduceMean", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd", "LogSum": "ReduceLogSumExp",
}  # fmt: skip
_BEST = {"Argmax": "ArgMax", "Argmin": "ArgMin"}


def _reduce(site: Site) -> Value:
    (x,) = site.take(1)
    kind, keep = site.attribute("reductionOpName", str), site.attribute("reductionKeepDimensions", bool, True)
    places = _places(site, x)
    shape = [1 if place in places else size for place, size in enumerate(x.shape) if keep or place not in places]
    axes = [x.lead + place for place in places]
    if not axes and kind not in _BEST:
        return x
    name = site.name(x)
    if kind == "Sum":
        name = site.emit("ReduceSum", name, site.graph.sizes(*axes), keepdims=int(keep))
    elif kind in _OPS:
        name = site.emit(_OPS[kind], name, axes=axes, keepdims=int(keep))
    elif kind in _BEST:
        if len(axes) == len(x.shape) != 1:  # also of a number alone
            flat = site.reshape(x, (site.definite(x.shape),))
            best = site.value(site.emit(_BEST[kind], site.name(flat), axis=x.lead, keepdims=1), (1,), x.axes)
            name = site.reshape(best, shape).name
        elif len(axes) != 1:
            site.refuse("it looks for the best along several axes at once, which is not covered")
        else:
            name = site.emit(_BEST[kind], name, axis=axes[0], keepdims=int(keep))
        name = site.emit("Cast", name, to=TYPES[site.dtype])
    else:
        site.refuse("it reduces by '%s', which is not covered" % kind[:40])
    return site.value(name, shape, x.axes)


def _places(site: Site, x: Value) -> List[int]:
    told = site.function.attributes.get("axisVec", [site.function.attributes.get("axis")])
    if not isinstance(told, list) or not all(isinstance(axis, Axis) for axis in told):
        site.refuse("its axes are not what CNTK 2.7 writes")
    if any(axis.name == _ALL_STATIC for axis in told):
        return list(range(len(x.shape)))
    return sorted({site.existing_axis(axis, len(x.shape)) for axis in told})


def _softmax(op: str) -> Callable[[Site], Value]:
    def translated(site: Site) -> Value:
        (x,) = site.take(1)
        if "axis" in site.function.attributes:
            axis = x.lead + site.existing_axis(site.attribute("axis", Axis), len(x.shape))
            return site.value(site.emit(op, site.name(x), axis=axis), x.shape, x.axes)
        if len(x.shape) == 1:
            return site.value(site.emit(op, site.name(x), axis=x.lead), x.shape, x.axes)
        # Without an axis it is over all values of a row.
        flat = site.reshape(x, (site.definite(x.shape),))
        return site.reshape(site.value(site.emit(op, site.name(flat), axis=x.lead), flat.shape, x.axes), x.shape)

    return translated


def _top_k(site: Site) -> List[Value]:
    (x,) = site.take(1)
    place = site.existing_axis(site.attribute("axis", Axis), len(x.shape))
    count = site.attribute("numItems", int)
    if not 0 < count <= x.shape[place]:
        site.refuse("it wants the best %d of %d" % (count, x.shape[place]))
    best, numbers = site.graph.emit(
        "TopK", [site.name(x), site.graph.sizes(count)], site.called, outputs=2, axis=x.lead + place
    )
    shape = [count if each == place else size for each, size in enumerate(x.shape)]
    numbers = site.emit("Cast", numbers, to=TYPES[site.dtype])
    return [site.value(best, shape, x.axes), site.value(numbers, shape, x.axes)]


TRANSLATORS: Dict[str, Callable[[Site], object]] = {
    "ReduceElements": _reduce,
    "Softmax": _softmax("Softmax"),
    "LogSoftmax": _softmax("LogSoftmax"),
    "Hardmax": _softmax("Hardmax"),
    "TopK": _top_k,
}
