"""Convolutions. The bias precedes the weights in all of them (ConvolutionParamInitializer)."""

from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..activations import activated
from ..context import TranslationContext, padding_growth
from ..registry import LAYERS, InferInput, covers, spatial
from ..settings import Settings
from ..values import Value
from ..windows import Windows, windows


def _convolution_input(dimensions: int, last: str, mode: Optional[str] = "Truncate") -> InferInput:
    return spatial(dimensions, lambda settings, sizes: windows(settings, dimensions, mode).inputs(sizes), last)


def _deconvolution_input(dimensions: int, last: str) -> InferInput:
    def infer_sizes(settings: Settings, sizes: Tuple[int, ...]) -> Tuple[int, ...]:
        window = windows(settings, dimensions)
        found = []
        for size, stride, padding, extent in zip(sizes, window.stride, window.padding, window.extents):
            rest = size if window.mode == "Same" else size - extent + 2 * padding + stride
            found.append(-1 if size < 0 or rest % stride else rest // stride)
        return tuple(found)

    return spatial(dimensions, infer_sizes, last)


@covers(
    LAYERS,
    "ConvolutionLayer",
    source="layers/convolution/ConvolutionLayer",
    evidence="stored",
    infer_input=_convolution_input(2, "NHWC"),
)
def convolution_2d(context: TranslationContext) -> Value:
    last = context.channels_last("cnn2dDataFormat", "NCHW", "NHWC")
    return _convolution(context, windows(context.settings, 2), last)


@covers(
    LAYERS,
    "Convolution1DLayer",
    source="layers/convolution/Convolution1DLayer",
    evidence="computed",
    infer_input=_convolution_input(1, "NWC"),
)
def convolution_1d(context: TranslationContext) -> Value:
    """M1 stores the weights as [kernel, inputs, outputs], all earlier versions as [outputs, inputs, kernel].

    Files do not record their version. The field rnnDataFormat, which beta7 introduced, only shows that a file is from
    beta7 or later. The orders are the same numbers if at most one dimension is larger than 1.
    """
    last, window = context.channels_last("rnnDataFormat", "NCW", "NWC"), windows(context.settings, 1)
    inputs, outputs = _channels(context)
    bias = _bias(context, outputs)
    weights = context.take([outputs, inputs, *window.kernel], "C")
    version, unambiguous = context.choices.convolution_1d, sum(size > 1 for size in weights.shape) <= 1
    if context.settings.get("rnnDataFormat") is not None and not version and not unambiguous:
        context.refuse(
            "beta7 and M1 store its weights in different orders, and the file does not record which of them wrote it: "
            'set convolution_1d = "beta7" or "M1" in [parameters]'
        )
    if context.settings.get("rnnDataFormat") is not None and version == "M1":
        weights = np.ascontiguousarray(weights.reshape(weights.shape[::-1]).transpose(2, 1, 0))
    value = _input(context, inputs, window, last)
    return _activated(context, _convolve(context, value, weights, bias, window), last)


@covers(
    LAYERS,
    "Convolution3D",
    source="layers/convolution/Convolution3DLayer",
    evidence="computed",
    infer_input=_convolution_input(3, "NDHWC", None),
)
def convolution_3d(context: TranslationContext) -> Value:
    last = context.channels_last("dataFormat", "NCDHW", "NDHWC")
    return _convolution(context, windows(context.settings, 3, default=None), last)


def _convolution(context: TranslationContext, window: Windows, last: bool) -> Value:
    inputs, outputs = _channels(context)
    bias = _bias(context, outputs)
    weights = context.take([outputs, inputs, *window.kernel], "C")
    value = _input(context, inputs, window, last)
    return _activated(context, _convolve(context, value, weights, bias, window), last)


@covers(
    LAYERS,
    "SeparableConvolution2D",
    source="layers/convolution/SeparableConvolution2DLayer",
    evidence="stored",
    infer_input=_convolution_input(2, "NHWC"),
)
def separable(context: TranslationContext) -> Value:
    """A depthwise convolution followed by a 1 x 1 convolution, which has the bias."""
    last = context.channels_last("cnn2dDataFormat", "NCHW", "NHWC")
    inputs, outputs = _channels(context)
    times, window = context.settings.integer("depthMultiplier", 1, minimum=1), windows(context.settings, 2)
    bias = _bias(context, outputs)
    depthwise = context.take([times, inputs, *window.kernel], "C").transpose(1, 0, 2, 3)
    pointwise = context.take([outputs, times * inputs, 1, 1], "C")
    value = _input(context, inputs, window, last)
    value = _convolve(context, value, depthwise.reshape(inputs * times, 1, *window.kernel), None, window, inputs)
    return _activated(
        context, _convolve(context, value, pointwise, bias, Windows((1, 1), (1, 1), (0, 0), (1, 1), "Truncate")), last
    )


@covers(
    LAYERS,
    "DepthwiseConvolution2D",
    source="layers/convolution/DepthwiseConvolution2DLayer",
    evidence="stored",
    infer_input=_convolution_input(2, "NHWC"),
)
def depthwise(context: TranslationContext) -> Value:
    last = context.channels_last("cnn2dDataFormat", "NCHW", "NHWC")
    inputs, window = context.settings.integer("nIn", minimum=1), windows(context.settings, 2)
    times = context.settings.integer("depthMultiplier", 1, minimum=1)
    bias = _bias(context, inputs * times)
    weights = context.take([*window.kernel, inputs, times], "C").transpose(2, 3, 0, 1)
    value = _input(context, inputs, window, last)
    return _activated(
        context,
        _convolve(context, value, weights.reshape(inputs * times, 1, *window.kernel), bias, window, inputs),
        last,
    )


@covers(
    LAYERS,
    "Deconvolution2D",
    source="layers/convolution/Deconvolution2DLayer",
    evidence="computed",
    infer_input=_deconvolution_input(2, "NHWC"),
)
def deconvolution_2d(context: TranslationContext) -> Value:
    last = context.channels_last("cnn2dDataFormat", "NCHW", "NHWC")
    inputs, outputs = _channels(context)
    window = windows(context.settings, 2)
    bias = _bias(context, outputs)
    return _deconvolution(context, context.take([inputs, outputs, *window.kernel], "C"), bias, window, last)


@covers(
    LAYERS,
    "Deconvolution3D",
    source="layers/convolution/Deconvolution3DLayer",
    evidence="computed",
    infer_input=_deconvolution_input(3, "NDHWC"),
)
def deconvolution_3d(context: TranslationContext) -> Value:
    last = context.channels_last("dataFormat", "NCDHW", "NDHWC")
    inputs, outputs = _channels(context)
    window = windows(context.settings, 3)
    bias = _bias(context, outputs)
    weights = context.take([*window.kernel, outputs, inputs], "C").transpose(4, 3, 0, 1, 2)
    return _deconvolution(context, weights, bias, window, last)


def _deconvolution(
    context: TranslationContext, weights: np.ndarray, bias: Optional[str], window: Windows, last: bool
) -> Value:
    """In mode "Same", the output's size is the stride times the input's (deconv2d of libnd4j).

    The padding is that of the convolution from the output back to the input.
    """
    value = _input(context, weights.shape[0], window, last)
    pads, sizes, growth = [], [], 1
    for size, stride, padding, extent in zip(value.sizes[1:], window.stride, window.padding, window.extents):
        if window.mode != "Same":
            pads.append((padding, padding))
            result = -1 if size < 0 else stride * (size - 1) + extent - 2 * padding
            if size >= 0 > result - 1:
                context.refuse("its padding of %d leaves nothing of the output" % padding)
            sizes.append(result)
            growth *= stride * padding_growth(extent - 2 * padding - stride) if size < 0 else 1
            continue
        if extent < stride:
            context.refuse("deconvolution in mode Same with a kernel smaller than the stride is not covered")
        pads.append(((extent - stride) // 2, extent - stride - (extent - stride) // 2))
        sizes.append(-1 if size < 0 else stride * size)
        growth *= stride if size < 0 else 1
    # ONNX Runtime's ConvTranspose allocates a buffer with one kernel per input position before it sums them up. This
    # raises if that would be too large.
    context.value("", [weights.shape[1], *window.kernel, *value.sizes[1:]], value)
    before, after = zip(*pads)
    name = context.emit(
        "ConvTranspose",
        value.name,
        context.constant(weights),
        *([bias] if bias else []),
        kernel_shape=window.kernel,
        strides=window.stride,
        dilations=window.dilation,
        pads=[*before, *after],
    )
    return _activated(context, context.value(name, [weights.shape[1], *sizes], value, growth), last)


def _channels(context: TranslationContext) -> Sequence[int]:
    return context.settings.integer("nIn", minimum=1), context.settings.integer("nOut", minimum=1)


def _bias(context: TranslationContext, outputs: int) -> Optional[str]:
    return context.constant(context.take([outputs], "C"), "bias") if context.settings.flag("hasBias", True) else None


def _input(context: TranslationContext, channels: int, window: Windows, last: bool) -> Value:
    """Return the input with its channels first."""
    others = [-1] * len(window.kernel)
    sizes = [*others, channels] if last else [channels, *others]
    return context.channels_first(context.checked_input(len(sizes), *sizes), last)


def _convolve(
    context: TranslationContext,
    value: Value,
    weights: np.ndarray,
    bias: Optional[str],
    window: Windows,
    groups: int = 1,
) -> Value:
    """weights: [outputs, inputs of a group, kernel]."""
    sizes: List[int] = [weights.shape[0], *window.outputs(value.sizes[1:], context.settings)]
    # ONNX Runtime pads the channels to a multiple of 16. This raises if that would be too large.
    context.value("", [max(sizes[0], 16), *sizes[1:]], value)
    inputs = [value.name, context.constant(weights), *([bias] if bias else [])]
    name = context.emit("Conv", *inputs, group=groups, **window.attributes(value.sizes[1:]))
    return context.value(name, sizes, value, window.growth(value.sizes[1:]))


def _activated(context: TranslationContext, value: Value, last: bool) -> Value:
    return context.restore_channels(activated(context, value), last)
