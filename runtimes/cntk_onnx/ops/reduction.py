"""Operations along axes: reductions, softmax, top-k."""

from typing import Callable, Dict, List

from runtimes.onnx.builder import TYPES

from ..context import TranslationContext
from ..dictionary import Axis
from ..values import Value

# All static axes together, as CNTK 2.7 calls them, and as versions up to 2.0 number them.
_ALL_STATIC, _ALL_STATIC_INDEX = "AllStaticAxes", (1 << 31) - 2
_OPS = {
    "Mean": "ReduceMean", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd", "LogSum": "ReduceLogSumExp",
}  # fmt: skip
_ARG_OPS = {"Argmax": "ArgMax", "Argmin": "ArgMin"}


def _reduce(context: TranslationContext) -> Value:
    (x,) = context.take(1)
    kind, keep = context.attribute("reductionOpName", str), context.attribute("reductionKeepDimensions", bool, True)
    reduced = _reduced_axes(context, x)
    shape = [1 if axis in reduced else size for axis, size in enumerate(x.shape) if keep or axis not in reduced]
    axes = [x.lead + axis for axis in reduced]
    if not axes and kind not in _ARG_OPS:
        return x
    name = context.tensor(x)
    if kind == "Sum":
        name = context.emit("ReduceSum", name, context.graph.sizes(*axes), keepdims=int(keep))
    elif kind in _OPS:
        name = context.emit(_OPS[kind], name, axes=axes, keepdims=int(keep))
    elif kind in _ARG_OPS:
        if len(axes) == len(x.shape) != 1:  # including a scalar
            flat = context.reshape(x, (context.static_product(x.shape),))
            position = context.value(
                context.emit(_ARG_OPS[kind], context.tensor(flat), axis=x.lead, keepdims=1), (1,), x.axes
            )
            name = context.reshape(position, shape).name
        elif len(axes) != 1:
            context.refuse("it is %s along several but not all axes, which is not covered" % kind)
        else:
            name = context.emit(_ARG_OPS[kind], name, axis=axes[0], keepdims=int(keep))
        name = context.emit("Cast", name, to=TYPES[context.dtype])
    else:
        context.refuse("it reduces by '%s', which is not covered" % kind[:40])
    return context.value(name, shape, x.axes)


def _reduced_axes(context: TranslationContext, x: Value) -> List[int]:
    axes = context.function.attributes.get("axisVec", [context.function.attributes.get("axis")])
    if not isinstance(axes, list) or not all(isinstance(axis, Axis) for axis in axes):
        context.refuse("its axes are not what CNTK 2.7 writes")
    if any(axis.name == _ALL_STATIC or axis.index == _ALL_STATIC_INDEX for axis in axes):
        return list(range(len(x.shape)))
    return sorted({context.existing_axis(axis, len(x.shape)) for axis in axes})


def _softmax(op: str) -> Callable[[TranslationContext], Value]:
    def translated(context: TranslationContext) -> Value:
        (x,) = context.take(1)
        if "axis" in context.function.attributes:
            axis = x.lead + context.existing_axis(context.attribute("axis", Axis), len(x.shape))
            return context.value(context.emit(op, context.tensor(x), axis=axis), x.shape, x.axes)
        if len(x.shape) == 1:
            return context.value(context.emit(op, context.tensor(x), axis=x.lead), x.shape, x.axes)
        # Without an axis, it is over all values of a row.
        flat = context.reshape(x, (context.static_product(x.shape),))
        return context.reshape(
            context.value(context.emit(op, context.tensor(flat), axis=x.lead), flat.shape, x.axes), x.shape
        )

    return translated


def _top_k(context: TranslationContext) -> List[Value]:
    (x,) = context.take(1)
    axis = context.existing_axis(context.attribute("axis", Axis), len(x.shape))
    count = context.attribute("numItems", int)
    if not 0 < count <= x.shape[axis]:
        context.refuse("it selects the top %d of %d" % (count, x.shape[axis]))
    values, indices = context.graph.emit(
        "TopK", [context.tensor(x), context.graph.sizes(count)], context.name, outputs=2, axis=x.lead + axis
    )
    shape = [count if each == axis else size for each, size in enumerate(x.shape)]
    indices = context.emit("Cast", indices, to=TYPES[context.dtype])
    return [context.value(values, shape, x.axes), context.value(indices, shape, x.axes)]


TRANSLATORS: Dict[str, Callable[[TranslationContext], object]] = {
    "ReduceElements": _reduce,
    "Softmax": _softmax("Softmax"),
    "LogSoftmax": _softmax("LogSoftmax"),
    "Hardmax": _softmax("Hardmax"),
    "TopK": _top_k,
}
