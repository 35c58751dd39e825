"""Locally connected layers: convolutions whose weights differ from place to place.

In DL4J these are SameDiff layers, so their parameters are stored in row-major order, weights before biases.
"""

from typing import Sequence, Tuple

import numpy as np

from ..context import TranslationContext
from ..registry import LAYERS, covers, dynamic_sizes, spatial
from ..values import Value
from .attention import activated_by_word

# Of places times values of a window. The file has a weight for each, but what is gathered is as large for each row.
_MAX_GATHERED = 1 << 24


@covers(
    LAYERS,
    "LocallyConnected1D",
    source="conf/layers/LocallyConnected1D",
    evidence="computed",
    infer_input=spatial(1, dynamic_sizes),
)
def sequence(context: TranslationContext) -> Value:
    if context.settings.get("rnnDataFormat") == "NWC" or context.settings.get("dataFormat") == "NWC":
        context.refuse("it has its channels last, which DL4J does not compute either")
    after = "paddingR" if context.settings.get("cm") == "Same" else "padding"
    settings = context.settings
    kernel, stride = (settings.integer("kernel", minimum=1),), (settings.integer("stride", minimum=1),)
    pads = ((settings.integer("padding", 0), settings.integer(after, 0)),)
    out = (settings.integer("outputSize", minimum=1),)
    value = context.checked_input(2, settings.integer("nIn", minimum=1))
    return _local(context, value, kernel, stride, pads, out)


@covers(
    LAYERS,
    "LocallyConnected2D",
    source="conf/layers/LocallyConnected2D",
    evidence="computed",
    infer_input=spatial(2, dynamic_sizes, "NHWC"),
)
def image(context: TranslationContext) -> Value:
    """DL4J reads the windows column by column and writes the results row by row."""
    settings, last = context.settings, context.channels_last("format", "NCHW", "NHWC")
    kernel, stride = settings.integers("kernel", 2, minimum=1), settings.integers("stride", 2, minimum=1)
    before = settings.integers("padding", 2, 0)
    after = settings.integers("paddingBr", 2, 0) if settings.get("cm") == "Same" else before
    out = settings.integers("outputSize", 2, minimum=1)
    value = context.channels_first(context.checked_input(3), last)
    return context.restore_channels(_local(context, value, kernel, stride, tuple(zip(before, after)), out), last)


def _local(
    context: TranslationContext,
    value: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[Tuple[int, int]],
    out: Sequence[int],
) -> Value:
    """Multiply each window with its own weights, of which those for the first column come first."""
    channels, *sizes = value.sizes
    if channels != context.settings.integer("nIn", minimum=1):
        context.refuse("it expects %d channels but gets %d" % (context.settings.integer("nIn"), channels))
    if any(size < 0 for size in sizes):
        context.refuse("it needs fixed sizes, and some are dynamic: set them in [[inputs]]")
    padded = [size + sum(pad) for size, pad in zip(sizes, pads)]
    count, window = int(np.prod(out, dtype=object)), int(np.prod(kernel, dtype=object))
    if count * window * channels > _MAX_GATHERED:
        context.refuse("its windows have more values than %d" % _MAX_GATHERED)
    if any((n - 1) * step + reach > size for n, step, reach, size in zip(out, stride, kernel, padded)):
        context.refuse("its %s places do not fit its input" % (list(out),))
    outputs = context.settings.integer("nOut", minimum=1)
    weights = context.constant(context.take([count, channels * window, outputs], "C"))
    bias = context.constant(context.take([outputs], "C"), "bias") if context.settings.flag("hasBias", True) else ""
    name = value.name
    if any(map(sum, pads)):
        ends = [0, 0, *(before for before, _ in pads), 0, 0, *(after for _, after in pads)]
        name = context.emit("Pad", name, context.graph.sizes(*ends))
    flat = context.value("", [channels, int(np.prod(padded, dtype=object))], value)
    name = context.emit("Reshape", name, context.graph.sizes(0, *flat.sizes))
    within = np.stack(np.meshgrid(*map(np.arange, kernel), indexing="ij"), -1).reshape(-1, len(kernel))
    at = np.stack(np.unravel_index(np.arange(count), tuple(out), order="F"), -1) * stride
    indices = np.ravel_multi_index(tuple(np.moveaxis(at[:, None] + within[None], -1, 0)), padded)
    name = context.emit("Gather", name, context.graph.constant(indices.astype(np.int64), "windows"), axis=2)
    name = context.emit("Transpose", name, perm=[0, 2, 1, 3])
    name = context.emit("Reshape", name, context.graph.sizes(0, count, 1, channels * window))
    name = context.emit("MatMul", name, weights)
    name = activated_by_word(context, context.emit("Add", name, bias) if bias else name)
    name = context.emit("Reshape", name, context.graph.sizes(0, *out, outputs))
    order = [0, len(out) + 1, *range(1, len(out) + 1)]
    return context.value(context.emit("Transpose", name, perm=order), [outputs, *out], value)
