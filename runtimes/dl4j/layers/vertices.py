"""Vertices of a ComputationGraph that are no layers (nn/graph/vertex/impl)."""

from typing import Callable, List, Tuple

from ..configuration import preprocessor
from ..context import TranslationContext, same_sizes, shown
from ..registry import (
    PREPROCESSORS,
    VERTICES,
    Shape,
    Takes,
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


def _covers(kind: str, folder: str = "", takes: Takes = same) -> Callable[[Translate], Translate]:
    return covers(VERTICES, kind, source="graph/vertex/impl/%s%s" % (folder, kind), shown="computed", takes=takes)


_END = (1 << 31) - 1
# Each part of it is taken by a node that gives all of them.
_MAX_STACKED = 64


def _parts(settings: Settings, behind: Shape) -> Shape:
    axis = settings.integer("mergeAxis", 1, least=1) - 1
    return (*behind[:axis], -1, *behind[axis + 1 :]) if behind else None


def _preprocessed(settings: Settings, behind: Shape) -> Shape:
    found = preprocessor(settings.get("preProcessor"), settings.where)
    return PREPROCESSORS[found.kind].takes(found.settings, behind) if found and found.kind in PREPROCESSORS else None


def _one_more(settings: Settings, places: Tuple[int, ...]) -> Tuple[int, ...]:
    return tuple(place if place < 0 else place + 1 for place in places)


def _series_of(settings: Settings, behind: Shape) -> Shape:
    return (*behind, -1) if behind else (-1, -1)


def _row_of(settings: Settings, behind: Shape) -> Shape:
    return behind[:1] if behind else (-1,)


@_covers("MergeVertex", takes=_parts)
def merge(context: TranslationContext) -> Value:
    values, axis = _alike(context), context.settings.integer("mergeAxis", 1, least=1) - 1
    if len(values) == 1:
        return values[0]
    if axis >= len(values[0].sizes):
        context.refuse("it merges along axis %d of activations of rank %d" % (axis + 1, len(values[0].sizes) + 1))
    others = [value._replace(sizes=(*value.sizes[:axis], *value.sizes[axis + 1 :])) for value in values]
    sizes = list(same_sizes(others))
    if len(sizes) != len(values[0].sizes) - 1 or (not sizes and len(values[0].sizes) > 1):
        context.refuse("it merges %s, which differ elsewhere too" % _all_shown(values))
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
        context.refuse("it subtracts %d values from each other" % len(values))
    node = {"Add": "Add", "Average": "Add", "Subtract": "Sub", "Product": "Mul", "Max": "Max"}[op]
    name = values[0].name
    for value in values[1:]:
        name = context.emit(node, name, value.name)
    if op == "Average":
        name = context.emit("Div", name, context.scalar(len(values)))
    return context.value(name, sizes, values[0])


@_covers("SubsetVertex", takes=other_channels)
def subset(context: TranslationContext) -> Value:
    """Both ends belong to it."""
    start, end, value = context.settings.integer("from"), context.settings.integer("to"), context.input
    if not value.sizes or end < start or 0 <= value.sizes[0] <= end:
        context.refuse("it takes %d to %d of %s" % (start, end, shown(value.sizes)))
    return context.slice(value, 0, start, end + 1, end + 1 - start)


@_covers("StackVertex")
def stack(context: TranslationContext) -> Value:
    values = _alike(context)
    sizes = same_sizes(values)
    if len(sizes) != len(values[0].sizes):
        context.refuse("it stacks %s, which is not covered" % _all_shown(values))
    name = context.emit("Concat", *(value.name for value in values), axis=0)
    if len(values) > _MAX_STACKED:
        context.refuse("it stacks %d values" % len(values))
    stacked = context.value(name, sizes, values[0], len(values))
    return stacked._replace(folds=(*values[0].folds, Fold("stack", len(values))))


@_covers("UnstackVertex")
def unstack(context: TranslationContext) -> Value:
    value, count, place = (
        context.input,
        context.settings.integer("stackSize", least=1),
        context.settings.integer("from"),
    )
    if not value.folds or value.folds[-1] != Fold("stack", count) or place >= count:
        context.refuse("it takes part %d of %d of what was not stacked so" % (place, count))
    if count == 1:
        return value._replace(folds=value.folds[:-1])
    parts = context.graph.emit("Split", [value.name], context.kind, count, axis=0)
    return value._replace(name=parts[place], folds=value.folds[:-1])


@_covers("ScaleVertex")
def scale(context: TranslationContext) -> Value:
    value = context.input
    return value._replace(name=context.emit("Mul", value.name, context.scalar(context.settings.number("scaleFactor"))))


@_covers("ShiftVertex")
def shift(context: TranslationContext) -> Value:
    value = context.input
    return value._replace(name=context.emit("Add", value.name, context.scalar(context.settings.number("shiftFactor"))))


@_covers("L2Vertex", takes=unknown)
def distance(context: TranslationContext) -> Value:
    """The Euclidean distance of two, [N, 1]."""
    values = _alike(context)
    if len(values) != 2 or not same_sizes(values):
        context.refuse("it takes the distance of %s" % _all_shown(values))
    difference = context.emit("Sub", values[0].name, values[1].name)
    given = context.emit("ReduceL2", difference, axes=list(range(1, len(values[0].sizes) + 1)), keepdims=0)
    return context.value(context.emit("Unsqueeze", given, context.graph.sizes(1)), [1], values[0])


@_covers("L2NormalizeVertex")
def normalized(context: TranslationContext) -> Value:
    """x / max(|x|, eps), for each row."""
    value = context.input
    every = tuple(range(1, len(value.sizes) + 1))
    if len(value.sizes) not in (1, 2, 3) or (context.settings.list_of_integers("dimension") or every) != every:
        context.refuse("it normalises along dimensions that are not covered")
    length = context.emit("ReduceL2", value.name, axes=list(every), keepdims=1)
    least = context.scalar(context.settings.number("eps", 1e-8))
    return value._replace(name=context.emit("Div", value.name, context.emit("Max", length, least)))


@_covers("ReshapeVertex", takes=unknown)
def reshaped(context: TranslationContext) -> Value:
    """Its first size must be the rows': -1."""
    sizes = context.settings.list_of_integers("newShape")
    if context.settings.get("reshapeOrder") not in ("c", None):
        context.refuse("reshaping by columns is not covered")
    if not sizes or sizes[0] != -1 or any(size < 1 for size in sizes[1:]):
        context.refuse("it reshapes to %s; only shapes whose first size is -1, for the rows, are covered" % (sizes,))
    if any(size < 0 for size in context.input.sizes):
        context.refuse("it needs sizes that only a request tells: give them in [[inputs]]")
    return context.reshape(context.input, sizes[1:])


@_covers("PreprocessorVertex", takes=_preprocessed)
def preprocessed(context: TranslationContext) -> Value:
    found = preprocessor(context.settings.get("preProcessor"), context.settings.where)
    if found is None:
        context.refuse("it holds no preprocessor")
    within = TranslationContext(
        found.kind, found.settings, context.inputs, context.graph, context.parameters, context.choices
    )
    return translate(within, PREPROCESSORS)


@_covers("PoolHelperVertex", takes=spatial(2, _one_more))
def without_first_row_and_column(context: TranslationContext) -> Value:
    value = context.of(3)
    for axis in (1, 2):
        size = value.sizes[axis]
        if size == 1:
            context.refuse("it leaves nothing of %s" % shown(value.sizes))
        value = context.slice(value, axis, 1, _END, size if size < 0 else size - 1)
    return value


@_covers("LastTimeStepVertex", "rnn/", takes=_series_of)
def last_time_step(context: TranslationContext) -> Value:
    return last_step(context, context.of(2), False)


@_covers("ReverseTimeSeriesVertex", "rnn/")
def reverse(context: TranslationContext) -> Value:
    return reversed_in_time(context, context.of(2), 1)


@_covers("DuplicateToTimeSeriesVertex", "rnn/", takes=_row_of)
def repeated(context: TranslationContext) -> Value:
    """Its first input at each time step of the network's input that it names, which comes second here."""
    if len(context.inputs) != 2:
        context.refuse("it names no input of the network whose time steps it takes")
    value, like = context.inputs
    if len(value.sizes) != 1 or len(like.sizes) != 2 or value.folds or like.folds:
        context.refuse("it takes rows and a sequence, and gets %s" % _all_shown(context.inputs))
    one = context.reshape(value, (value.sizes[0], 1))
    steps = like.sizes[1]
    count = context.graph.sizes(steps) if steps >= 0 else context.count(like, 1)
    shape = context.emit("Concat", context.graph.sizes(1, 1), count, axis=0)
    return context.value(context.emit("Expand", one.name, shape), [value.sizes[0], steps], value)


def _broadcast(context: TranslationContext, values: List[Value]) -> List[int]:
    """The sizes of all together, where one that is 1 counts as often as the others want it."""
    if any(len(value.sizes) != len(values[0].sizes) for value in values):
        context.refuse("it combines %s, which is not covered" % _all_shown(values))
    found = []
    for sizes in zip(*(value.sizes for value in values)):
        known = {size for size in sizes if size > 1}
        if len(known) > 1:
            context.refuse("it combines %s, which do not fit" % _all_shown(values))
        found.append(known.pop() if known else min(sizes))
    return found


def _alike(context: TranslationContext) -> List[Value]:
    """Its inputs, whose rows must be the same ones."""
    if not same_rows(context.inputs):
        context.refuse("its inputs have different rows")
    return context.inputs


def _all_shown(values: List[Value]) -> str:
    return " and ".join(shown(value.sizes) for value in values)
