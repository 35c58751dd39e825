"""Yolo2OutputLayer: the boxes of YOLO version 2, one set for each cell of a grid."""

from typing import Any

import numpy as np

from ..context import TranslationContext
from ..registry import LAYERS, covers
from ..values import Value

# Of a box: the position and the size, and how sure it is. The scores of the classes follow.
_PLACE, _SIZE, _BOX = 2, 2, 5
_MAX_BOXES = 1000


@covers(LAYERS, "Yolo2OutputLayer", source="layers/objdetect/Yolo2OutputLayer", evidence="computed")
def boxes(context: TranslationContext) -> Value:
    """Sigmoid for the positions within a cell and the confidence, exp · prior for the sizes, softmax for the classes.

    Positions and sizes are in units of the grid; the position of the cell is not added.
    """
    last = context.channels_last("format", "NCHW", "NHWC")
    value, priors = context.channels_first(context.checked_input(3), last), _priors(context)
    channels, *grid = value.sizes
    count = len(priors)
    classes = channels // count - _BOX if channels > 0 else 0
    if classes < 1 or channels != count * (_BOX + classes):
        context.refuse("its input has %d channels, which %d boxes do not divide" % (channels, count))
    if any(size < 0 for size in grid):
        context.refuse("it needs a fixed grid, and its sizes are dynamic: set the input's sizes in [[inputs]]")
    cells = context.emit("Reshape", value.name, context.graph.sizes(0, count, _BOX + classes, *grid))
    place, size, sure, scores = context.emit(
        "Split", cells, context.graph.sizes(_PLACE, _SIZE, 1, classes), axis=2, outputs=4
    )
    parts = [
        context.emit("Sigmoid", place),
        context.emit(
            "Mul", context.emit("Exp", size), context.constant(priors.reshape(1, count, _SIZE, 1, 1), "priors")
        ),
        context.emit("Sigmoid", sure),
        context.emit("Softmax", scores, axis=2),
    ]
    joined = context.emit("Reshape", context.emit("Concat", *parts, axis=2), context.graph.sizes(0, channels, *grid))
    return context.restore_channels(context.value(joined, [channels, *grid], value), last)


def _priors(context: TranslationContext) -> np.ndarray:
    """Return the sizes of the boxes, [boxes, 2]."""
    given: Any = context.settings.get("boundingBoxes")
    shape, data = (given.get("shape"), given.get("data")) if isinstance(given, dict) else (None, None)
    if not _is_pairs(shape) or not isinstance(data, list) or len(data) != shape[0] * _SIZE:
        context.refuse("its field 'boundingBoxes' is not an array of pairs as DL4J writes it")
    if not all(isinstance(each, (int, float)) and abs(each) < 1e30 for each in data):
        context.refuse("its field 'boundingBoxes' has values that are no numbers")
    return np.array(data, np.float64).reshape(-1, _SIZE)


def _is_pairs(shape: Any) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) == 2
        and all(isinstance(each, int) for each in shape)
        and 0 < shape[0] <= _MAX_BOXES
        and shape[1] == _SIZE
    )
