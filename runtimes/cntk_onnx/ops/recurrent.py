"""OptimizedRNNStack: cuDNN's recurrent layers, whose weights are in one array."""

from typing import Callable, Dict, List, Tuple

import numpy as np

from ..context import TranslationContext
from ..values import Value
from ..windows import emit_in_float32

# Operation → its operator, its activation, and, for each of ONNX's gates, which of cuDNN's it is.
_KINDS: Dict[str, Tuple[str, str, Tuple[int, ...]]] = {
    "lstm": ("LSTM", "", (0, 3, 1, 2)),
    "rnnTanh": ("RNN", "Tanh", (0,)),
    "rnnReLU": ("RNN", "Relu", (0,)),
}
_MAX_LAYERS = 64


def _stack(context: TranslationContext) -> Value:
    x, weights = context.take(2)
    kind = context.attribute("recurrentOp", str)
    if kind not in _KINDS:
        context.refuse("it is a stack of '%s', which is not covered" % kind[:40])
    layers, width = context.attribute("numLayers", int), context.attribute("hiddenSize", int)
    both = context.attribute("bidirectional", bool)
    if x.lead != 2 or len(x.shape) != 1:
        context.refuse("its input is not a sequence of vectors, which is not covered")
    if weights.array is None:
        context.refuse("its weights are computed, which is not covered")
    if not 0 < layers <= _MAX_LAYERS or not 0 < width <= weights.array.size:
        context.refuse("it has %d layers of %d values" % (layers, width))
    gates, directions = len(_KINDS[kind][2]), 1 + both
    sizes = [context.static_product(x.shape)] + [width * directions] * (layers - 1)
    rows = gates * width
    if weights.array.size != sum((size + width + 2) * rows * directions for size in sizes):
        context.refuse("its weights have %d values, which do not match its layers" % weights.array.size)
    flat, parts = weights.array.reshape(-1), []  # type: np.ndarray, List[np.ndarray]
    shapes = [(rows, each) for size in sizes for _ in range(directions) for each in (size, width)]
    for shape in [*shapes, *[(rows, 1)] * (2 * layers * directions)]:
        parts.append(_ordered(flat[: shape[0] * shape[1]].reshape(shape), kind))
        flat = flat[shape[0] * shape[1] :]
    name = context.emit("Transpose", context.tensor(x), perm=[1, 0, 2])
    each = 2 * directions  # arrays of a layer's weights, and of its biases, which come after all weights
    for layer in range(layers):
        name = _layer(context, name, kind, width, parts[layer * each :], parts[(layers + layer) * each :])
    return context.value(context.emit("Transpose", name, perm=[1, 0, 2]), (width * directions,), x.axes)


def _layer(
    context: TranslationContext, x: str, kind: str, width: int, weights: List[np.ndarray], biases: List[np.ndarray]
) -> str:
    """Return the output of a layer, [steps, rows, values]. weights, biases: those of this layer come first."""
    op, activation, _ = _KINDS[kind]
    directions = 1 + context.attribute("bidirectional", bool)
    pairs = range(0, 2 * directions, 2)
    arrays = [
        np.stack([weights[at] for at in pairs]),
        np.stack([weights[at + 1] for at in pairs]),
        np.stack([np.concatenate([biases[at], biases[at + 1]])[:, 0] for at in pairs]),
    ]
    attributes = {"activations": [activation] * directions} if activation else {}
    found = emit_in_float32(
        context, op, [x, *(context.graph.constant(array, context.name + "_weights") for array in arrays)],
        hidden_size=width, direction="bidirectional" if directions > 1 else "forward", **attributes,
    )  # fmt: skip
    turned = context.emit("Transpose", found, perm=[0, 2, 1, 3])  # from [steps, directions, rows, values]
    return context.emit("Reshape", turned, context.graph.sizes(0, 0, width * directions))


def _ordered(array: np.ndarray, kind: str) -> np.ndarray:
    """Return the rows of weights with their gates in ONNX's order."""
    order = _KINDS[kind][2]
    return np.concatenate([np.split(array, len(order))[gate] for gate in order])


TRANSLATORS: Dict[str, Callable[[TranslationContext], Value]] = {"OptimizedRNNStack": _stack}
