"""Operations along axes: sums, extremes, softmax, the best."""

from typing import Callable, Dict, List

from runtimes.onnx.graph import TYPES

from ..context import TranslationContext
from ..dictionary import Axis
from ..values import Value

_ALL_STATIC = "AllStaticAxes"
_OPS = {
    "Mean": "ReduceMean", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd", "LogSum": "ReduceLogSumExp",
}  # fmt: skip
_BEST = {"Argmax": "ArgMax", "Argmin": "ArgMin"}


def _reduce(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    kind, keep = context.attribute("reductionOpName", str), context.attribute("reductionKeepDimensions", bool, True)
    places = _places(context, x)
    shape = [1 if place in places else size for place, size in enumerate(x.shape) if keep or place not in places]
    axes = [x.lead + place for place in places]
    if not axes and kind not in _BEST:
        return x
    name = context.name(x)
    if kind == "Sum":
        name = context.emit("ReduceSum", name, context.graph.sizes(*axes), keepdims=int(keep))
    elif kind in _OPS:
        name = context.emit(_OPS[kind], name, axes=axes, keepdims=int(keep))
    elif kind in _BEST:
        if len(axes) == len(x.shape) != 1:  # also of a number alone
            flat = context.reshape(x, (context.definite(x.shape),))
            best = context.value(context.emit(_BEST[kind], context.name(flat), axis=x.lead, keepdims=1), (1,), x.axes)
            name = context.reshape(best, shape).name
        elif len(axes) != 1:
            context.refuse("it looks for the best along several axes at once, which is not covered")
        else:
            name = context.emit(_BEST[kind], name, axis=axes[0], keepdims=int(keep))
        name = context.emit("Cast", name, to=TYPES[context.dtype])
    else:
        context.refuse("it reduces by '%s', which is not covered" % kind[:40])
    return context.value(name, shape, x.axes)


def _places(context: TranslationContext, x: Value) -> List[int]:
    told = context.function.attributes.get("axisVec", [context.function.attributes.get("axis")])
    if not isinstance(told, list) or not all(isinstance(axis, Axis) for axis in told):
        context.refuse("its axes are not what CNTK 2.7 writes")
    if any(axis.name == _ALL_STATIC for axis in told):
        return list(range(len(x.shape)))
    return sorted({context.existing_axis(axis, len(x.shape)) for axis in told})


def _softmax(op: str) -> Callable[[TranslationContext], Value]:
    def translated(context: TranslationContext) -> Value:
        (x,) = context.take(1)
        if "axis" in context.function.attributes:
            axis = x.lead + context.existing_axis(context.attribute("axis", Axis), len(x.shape))
            return context.value(context.emit(op, context.name(x), axis=axis), x.shape, x.axes)
        if len(x.shape) == 1:
            return context.value(context.emit(op, context.name(x), axis=x.lead), x.shape, x.axes)
        # Without an axis it is over all values of a row.
        flat = context.reshape(x, (context.definite(x.shape),))
        return context.reshape(
            context.value(context.emit(op, context.name(flat), axis=x.lead), flat.shape, x.axes), x.shape
        )

    return translated


def _top_k(context: TranslationContext) -> List[Value]:
    (x,) = context.take(1)
    place = context.existing_axis(context.attribute("axis", Axis), len(x.shape))
    count = context.attribute("numItems", int)
    if not 0 < count <= x.shape[place]:
        context.refuse("it wants the best %d of %d" % (count, x.shape[place]))
    best, numbers = context.graph.emit(
        "TopK", [context.name(x), context.graph.sizes(count)], context.called, outputs=2, axis=x.lead + place
    )
    shape = [count if each == place else size for each, size in enumerate(x.shape)]
    numbers = context.emit("Cast", numbers, to=TYPES[context.dtype])
    return [context.value(best, shape, x.axes), context.value(numbers, shape, x.axes)]


TRANSLATORS: Dict[str, Callable[[TranslationContext], object]] = {
    "ReduceElements": _reduce,
    "Softmax": _softmax("Softmax"),
    "LogSoftmax": _softmax("LogSoftmax"),
    "Hardmax": _softmax("Hardmax"),
    "TopK": _top_k,
}
