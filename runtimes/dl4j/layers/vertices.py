"""The vertices of a ComputationGraph other than layers (nn/graph/vertex/impl)."""

from typing import Callable, List, Tuple

from ..configuration import preprocessor
from ..context import TranslationContext, common_sizes, format_sizes
from ..registry import (
    PREPROCESSORS,
    VERTICES,
    InferInput,
    Shape,
    Translate,
    covers,
    other_channels,
    same,
    spatial,
    translate,
    unknown,
)
from ..settings import Settings
from ..values import Fold, Value, same_rows
from .recurrent import last_step, reversed_in_time


def _covers(kind: str, folder: str = "", infer_input: InferInput = same) -> Callable[[Translate], Translate]:
    return covers(
        VERTICES, kind, source="graph/vertex/impl/%s%s" % (folder, kind), evidence="computed", infer_input=infer_input
    )


_END = (1 << 31) - 1
# UnstackVertex becomes a Split with this many outputs, and there can be one for each part: quadratic in this number.
_MAX_STACKED = 64


def _parts(settings: Settings, output: Shape) -> Shape:
    axis = settings.integer("mergeAxis", 1, minimum=-1) - 1 if output else 0
    axis = axis if axis >= 0 or not output else len(output) - 1  # from -1
    return (*output[:axis], -1, *output[axis + 1 :]) if output else None


def _preprocessed(settings: Settings, output: Shape) -> Shape:
    found = preprocessor(settings.get("preProcessor"), settings.where)
    return (
        PREPROCESSORS[found.kind].infer_input(found.settings, output) if found and found.kind in PREPROCESSORS else None
    )


def _one_more(settings: Settings, sizes: Tuple[int, ...]) -> Tuple[int, ...]:
    return tuple(size if size < 0 else size + 1 for size in sizes)


def _series_of(settings: Settings, output: Shape) -> Shape:
    return (*output, -1) if output else (-1, -1)


def _row_of(settings: Settings, output: Shape) -> Shape:
    return output[:1] if output else (-1,)


@_covers("MergeVertex", infer_input=_parts)
def merge(context: TranslationContext) -> Value:
    values, given = _alike(context), context.settings.integer("mergeAxis", 1, minimum=-1)
    if given == 0:
        context.refuse("it merges rows, which is not covered")
    axis = given - 1 if given > 0 else len(values[0].sizes) - 1
    if len(values) == 1:
        return values[0]
    if axis >= len(values[0].sizes):
        context.refuse("it merges along axis %d of activations of rank %d" % (axis + 1, len(values[0].sizes) + 1))
    others = [value._replace(sizes=(*value.sizes[:axis], *value.sizes[axis + 1 :])) for value in values]
    sizes = list(common_sizes(others))
    if len(sizes) != len(values[0].sizes) - 1 or (not sizes and len(values[0].sizes) > 1):
        context.refuse("it merges %s, which also differ in other dimensions" % _format_all(values))
    merged = [value.sizes[axis] for value in values]
    sizes.insert(axis, -1 if -1 in merged else sum(merged))
    name = context.emit("Concat", *(value.name for value in values), axis=axis + 1)
    return context.value(name, sizes, values[0], len(values) if -1 in merged else 1)


@_covers("ElementWiseVertex")
def elementwise(context: TranslationContext) -> Value:
    op = context.settings.choice("op", ("Add", "Subtract", "Product", "Average", "Max"))
    values = _alike(context)
    if len(values) == 1:
        return values[0]
    sizes = _broadcast(context, values)
    if op == "Subtract" and len(values) != 2:
        context.refuse("it subtracts %d inputs, and only two are supported" % len(values))
    node = {"Add": "Add", "Average": "Add", "Subtract": "Sub", "Product": "Mul", "Max": "Max"}[op]
    name = values[0].name
    for value in values[1:]:
        name = context.emit(node, name, value.name)
    if op == "Average":
        name = context.emit("Div", name, context.scalar(len(values)))
    return context.value(name, sizes, values[0])


@_covers("SubsetVertex", infer_input=other_channels)
def subset(context: TranslationContext) -> Value:
    """Both ends are inclusive."""
    start, end, value = context.settings.integer("from"), context.settings.integer("to"), context.input
    if not value.sizes or end < start or 0 <= value.sizes[0] <= end:
        context.refuse("it selects features %d to %d of %s" % (start, end, format_sizes(value.sizes)))
    return context.slice(value, 0, start, end + 1, end + 1 - start)


@_covers("StackVertex")
def stack(context: TranslationContext) -> Value:
    values = _alike(context)
    sizes = common_sizes(values)
    if len(sizes) != len(values[0].sizes):
        context.refuse("it stacks %s, which is not covered" % _format_all(values))
    name = context.emit("Concat", *(value.name for value in values), axis=0)
    if len(values) > _MAX_STACKED:
        context.refuse("it stacks %d inputs, and only up to %d are supported" % (len(values), _MAX_STACKED))
    stacked = context.value(name, sizes, values[0], len(values))
    return stacked._replace(folds=(*values[0].folds, Fold("stack", len(values))))


@_covers("UnstackVertex")
def unstack(context: TranslationContext) -> Value:
    value, count, index = (
        context.input,
        context.settings.integer("stackSize", minimum=1),
        context.settings.integer("from"),
    )
    if not value.folds or value.folds[-1] != Fold("stack", count) or index >= count:
        context.refuse("it selects part %d of %d, and its input is not a stack of that many" % (index, count))
    if count == 1:
        return value._replace(folds=value.folds[:-1])
    parts = context.graph.emit("Split", [value.name], context.kind, count, axis=0)
    return value._replace(name=parts[index], folds=value.folds[:-1])


@_covers("ScaleVertex")
def scale(context: TranslationContext) -> Value:
    value = context.input
    return value._replace(name=context.emit("Mul", value.name, context.scalar(context.settings.number("scaleFactor"))))


@_covers("ShiftVertex")
def shift(context: TranslationContext) -> Value:
    value = context.input
    return value._replace(name=context.emit("Add", value.name, context.scalar(context.settings.number("shiftFactor"))))


@_covers("L2Vertex", infer_input=unknown)
def distance(context: TranslationContext) -> Value:
    """The Euclidean distance between the rows of two inputs, [N, 1]."""
    values = _alike(context)
    if len(values) != 2 or not common_sizes(values):
        context.refuse("it computes the distance of %s, and needs two inputs of the same sizes" % _format_all(values))
    difference = context.emit("Sub", values[0].name, values[1].name)
    distances = context.emit("ReduceL2", difference, axes=list(range(1, len(values[0].sizes) + 1)), keepdims=0)
    return context.value(context.emit("Unsqueeze", distances, context.graph.sizes(1)), [1], values[0])


@_covers("L2NormalizeVertex")
def normalized(context: TranslationContext) -> Value:
    """x / max(|x|, eps) for each row."""
    value = context.input
    all_axes = tuple(range(1, len(value.sizes) + 1))
    if len(value.sizes) not in (1, 2, 3) or (context.settings.list_of_integers("dimension") or all_axes) != all_axes:
        context.refuse("it normalizes along dimensions that are not covered")
    length = context.emit("ReduceL2", value.name, axes=list(all_axes), keepdims=1)
    minimum = context.scalar(context.settings.number("eps", 1e-8))
    return value._replace(name=context.emit("Div", value.name, context.emit("Max", length, minimum)))


@_covers("ReshapeVertex", infer_input=unknown)
def reshaped(context: TranslationContext) -> Value:
    """The first size must be -1, for the rows."""
    sizes = context.settings.list_of_integers("newShape")
    if context.settings.get("reshapeOrder") not in ("c", None):
        context.refuse("reshaping in column-major order is not covered")
    if not sizes or sizes[0] != -1 or any(size < 1 for size in sizes[1:]):
        context.refuse("it reshapes to %s; only shapes whose first size is -1, for the rows, are covered" % (sizes,))
    if any(size < 0 for size in context.input.sizes):
        context.refuse("it needs fixed sizes, and some are dynamic: set them in [[inputs]]")
    return context.reshape(context.input, sizes[1:])


@_covers("PreprocessorVertex", infer_input=_preprocessed)
def preprocessed(context: TranslationContext) -> Value:
    found = preprocessor(context.settings.get("preProcessor"), context.settings.where)
    if found is None:
        context.refuse("its field 'preProcessor' is missing")
    inner = TranslationContext(
        found.kind, found.settings, context.inputs, context.graph, context.parameters, context.choices
    )
    return translate(inner, PREPROCESSORS)


@_covers("PoolHelperVertex", infer_input=spatial(2, _one_more))
def without_first_row_and_column(context: TranslationContext) -> Value:
    value = context.checked_input(3)
    for axis in (1, 2):
        size = value.sizes[axis]
        if size == 1:
            context.refuse("it removes a row and a column, which leaves nothing of %s" % format_sizes(value.sizes))
        value = context.slice(value, axis, 1, _END, size if size < 0 else size - 1)
    return value


@_covers("LastTimeStepVertex", "rnn/", infer_input=_series_of)
def last_time_step(context: TranslationContext) -> Value:
    return last_step(context, context.checked_input(2), False)


@_covers("ReverseTimeSeriesVertex", "rnn/")
def reverse(context: TranslationContext) -> Value:
    return reversed_in_time(context, context.checked_input(2), 1)


@_covers("DuplicateToTimeSeriesVertex", "rnn/", infer_input=_row_of)
def repeated(context: TranslationContext) -> Value:
    """Repeats the first input for each time step of the network input that it names, which is the second input here."""
    if len(context.inputs) != 2:
        context.refuse("its field 'inputName' does not name an input of the network")
    value, like = context.inputs
    if len(value.sizes) != 1 or len(like.sizes) != 2 or value.folds or like.folds:
        context.refuse("it expects rows and a sequence but gets %s" % _format_all(context.inputs))
    one = context.reshape(value, (value.sizes[0], 1))
    steps = like.sizes[1]
    count = context.graph.sizes(steps) if steps >= 0 else context.dynamic_size(like, 1)
    shape = context.emit("Concat", context.graph.sizes(1, 1), count, axis=0)
    return context.value(context.emit("Expand", one.name, shape), [value.sizes[0], steps], value)


def _broadcast(context: TranslationContext, values: List[Value]) -> List[int]:
    """Return the broadcast sizes: a size of 1 is repeated to match the others."""
    if any(len(value.sizes) != len(values[0].sizes) for value in values):
        context.refuse("it combines %s, which is not covered" % _format_all(values))
    found = []
    for sizes in zip(*(value.sizes for value in values)):
        known = {size for size in sizes if size > 1}
        if len(known) > 1:
            context.refuse("it combines %s, which do not match" % _format_all(values))
        found.append(known.pop() if known else min(sizes))
    return found


def _alike(context: TranslationContext) -> List[Value]:
    """Return the inputs. Raises LoadError unless their rows correspond."""
    if not same_rows(context.inputs):
        context.refuse("its inputs differ in what their rows are")
    return context.inputs


def _format_all(values: List[Value]) -> str:
    return " and ".join(format_sizes(value.sizes) for value in values)
