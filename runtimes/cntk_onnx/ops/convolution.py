"""Convolution and transposed convolution, in one to three dimensions."""

from typing import Callable, Dict, List, Sequence

from ..context import TranslationContext
from ..dictionary import Shape
from ..values import Value
from ..windows import Window, batched, cropped, emit_in_float32, per_axis, unbatched, windows


def _convolution(context: TranslationContext) -> Value:
    """Convolve [in, size…] with a kernel [out, in, k…]; transposed, with a kernel [in, out, k…]."""
    kernel, x = context.take(2)
    if kernel.axes:
        context.refuse("its kernel is computed from the input, which is not covered")
    if context.attribute("sequential", bool, False):
        context.refuse("it moves along the sequence, which is not covered")
    if any(each is not True for each in context.attribute("sharing", list, [True])):
        context.refuse("its kernel is not shared between positions, which is not covered")
    if len(kernel.shape) == len(x.shape):  # one output channel
        kernel = context.reshape(kernel, (1, *kernel.shape))
    if len(kernel.shape) != len(x.shape) + 1 or not 2 <= len(x.shape) <= 4:
        context.refuse("its kernel has the shape %s and its input %s" % (list(kernel.shape), list(x.shape)))
    context.static_product(kernel.shape)
    if x.shape[0] < 1:
        context.refuse("the number of its channels is dynamic, which is not covered")
    return (
        _transposed(context, kernel, x) if context.attribute("transpose", bool, False) else _plain(context, kernel, x)
    )


def _plain(context: TranslationContext, kernel: Value, x: Value) -> Value:
    groups = context.attribute("groups", int, 1)
    rank = len(x.shape)
    if groups < 1 or x.shape[0] != kernel.shape[1] * groups or kernel.shape[0] % groups:
        context.refuse("its kernel %s does not match %d channels" % (list(kernel.shape), x.shape[0]))
    dilations = per_axis(context, context.attribute("dilation", Shape, (1,)), rank, 1)
    reach = (x.shape[0], *kernel.shape[2:])
    channels, *spatial = windows(context, x.shape, reach, [1, *dilations[1:]])
    if channels.out != 1:
        context.refuse("it also moves along the channels, which is not covered")
    rows, _ = batched(context, x)
    name = emit_in_float32(
        context, "Conv", [cropped(context, rows, spatial), context.tensor(kernel)], kernel_shape=kernel.shape[2:],
        strides=[each.stride for each in spatial], dilations=dilations[1:], group=groups, pads=pads(spatial),
    )  # fmt: skip
    return unbatched(context, name, (kernel.shape[0], *(each.out for each in spatial)), x)


def _transposed(context: TranslationContext, kernel: Value, x: Value) -> Value:
    rank = len(x.shape)
    if context.attribute("groups", int, 1) != 1 or x.shape[0] != kernel.shape[0]:
        context.refuse("its kernel %s does not match %d channels" % (list(kernel.shape), x.shape[0]))
    dilations = per_axis(context, context.attribute("dilation", Shape, (1,)), rank, 1)
    if set(dilations) != {1}:
        context.refuse("it is transposed and dilated, which is not covered")
    output_shape = context.attribute("outputShape", Shape, (0,))
    sizes = list(output_shape)[::-1] if len(output_shape) == rank and all(output_shape) else []
    strides = per_axis(context, context.attribute("strides", Shape, ()), rank, 1)
    automatic = per_axis(context, context.attribute("autoPadding", list, []), rank, False)
    lower = per_axis(context, context.attribute("lowerPad", Shape, ()), rank, 0)
    upper = per_axis(context, context.attribute("upperPad", Shape, ()), rank, 0)
    begins, ends, out = [], [], []
    for axis in range(1, rank):
        size, reach, stride = x.shape[axis], kernel.shape[axis + 1], strides[axis]
        context.static_product((size,))
        whole = (size - 1) * stride + reach
        # It inverts a convolution over the output, and has that convolution's padding.
        output_size = sizes[axis] if sizes else None
        if automatic[axis]:
            output_size = output_size or (size - 1) * stride + 1
            extra = output_size - ((size - 1) * stride + 1)
            before = (reach - 1) // 2 - extra // 2
            after = whole - output_size - before
        else:
            before = lower[axis]
            after = whole - output_size - before if output_size else upper[axis]
        if before < 0 or not 0 < whole - before - after:
            context.refuse("its output shape %s does not match its input %s" % (sizes, list(x.shape)))
        begins.append(before)
        ends.append(after)
        out.append(whole - before - after)
    if any(after < 0 for after in ends):
        context.refuse("its output is larger than its windows reach, which is not covered")
    rows, _ = batched(context, x)
    name = emit_in_float32(
        context, "ConvTranspose", [rows, context.tensor(kernel)], kernel_shape=kernel.shape[2:], strides=strides[1:],
        pads=[*begins, *ends],
    )  # fmt: skip
    return unbatched(context, name, (kernel.shape[1], *out), x)


def pads(spatial: Sequence[Window]) -> List[int]:
    return [max(each.lower, 0) for each in spatial] + [max(each.upper, 0) for each in spatial]


TRANSLATORS: Dict[str, Callable[[TranslationContext], Value]] = {"Convolution": _convolution}
