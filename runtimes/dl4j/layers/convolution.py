"""Convolutions. In all of them the bias lies before the weights (ConvolutionParamInitializer)."""

from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..activations import activated
from ..context import TranslationContext, grown_by
from ..registry import LAYERS, Takes, covers, spatial
from ..settings import Settings
from ..values import Value
from ..windows import Windows, windows


def _taken(dimensions: int, last: str, mode: Optional[str] = "Truncate") -> Takes:
    return spatial(dimensions, lambda settings, places: windows(settings, dimensions, mode).inputs(places), last)


def _taken_back(dimensions: int, last: str) -> Takes:
    def before(settings: Settings, places: Tuple[int, ...]) -> Tuple[int, ...]:
        over = windows(settings, dimensions)
        found = []
        for size, stride, padding, extent in zip(places, over.stride, over.padding, over.extents):
            rest = size if over.mode == "Same" else size - extent + 2 * padding + stride
            found.append(-1 if size < 0 or rest % stride else rest // stride)
        return tuple(found)

    return spatial(dimensions, before, last)


@covers(
    LAYERS, "ConvolutionLayer", source="layers/convolution/ConvolutionLayer", shown="stored", takes=_taken(2, "NHWC")
)
def convolution_2d(context: TranslationContext) -> Value:
    last = context.flag_of_format("cnn2dDataFormat", "NCHW", "NHWC")
    return _convolution(context, windows(context.settings, 2), last)


@covers(
    LAYERS,
    "Convolution1DLayer",
    source="layers/convolution/Convolution1DLayer",
    shown="computed",
    takes=_taken(1, "NWC"),
)
def convolution_1d(context: TranslationContext) -> Value:
    """To M1 the same numbers are [kernel, inputs, outputs] as they lie there; to all before, [outputs, inputs, kernel].
    beta7 was the first to write the data's format, which is all by which a file of M1's differs from older ones."""
    last, over = context.flag_of_format("rnnDataFormat", "NCW", "NWC"), windows(context.settings, 1)
    inputs, outputs = _channels(context)
    bias = _bias(context, outputs)
    weights = context.take([outputs, inputs, *over.kernel], "C")
    told, alike = context.choices.convolution_1d, sum(size > 1 for size in weights.shape) <= 1
    if context.settings.get("rnnDataFormat") is not None and not told and not alike:
        context.refuse(
            "its weights mean one thing in beta7's files and another in M1's, and the file does not tell which of them "
            'wrote it: say convolution_1d = "beta7" or "M1" in [parameters]'
        )
    if context.settings.get("rnnDataFormat") is not None and told == "M1":
        weights = np.ascontiguousarray(weights.reshape(weights.shape[::-1]).transpose(2, 1, 0))
    value = _input(context, inputs, over, last)
    return _activated(context, _convolve(context, value, weights, bias, over), last)


@covers(
    LAYERS,
    "Convolution3D",
    source="layers/convolution/Convolution3DLayer",
    shown="computed",
    takes=_taken(3, "NDHWC", None),
)
def convolution_3d(context: TranslationContext) -> Value:
    last = context.flag_of_format("dataFormat", "NCDHW", "NDHWC")
    return _convolution(context, windows(context.settings, 3, default=None), last)


def _convolution(context: TranslationContext, over: Windows, last: bool) -> Value:
    inputs, outputs = _channels(context)
    bias = _bias(context, outputs)
    weights = context.take([outputs, inputs, *over.kernel], "C")
    value = _input(context, inputs, over, last)
    return _activated(context, _convolve(context, value, weights, bias, over), last)


@covers(
    LAYERS,
    "SeparableConvolution2D",
    source="layers/convolution/SeparableConvolution2DLayer",
    shown="stored",
    takes=_taken(2, "NHWC"),
)
def separable(context: TranslationContext) -> Value:
    """Each channel by kernels of its own, then all of them by 1 x 1; the bias belongs to the second."""
    last = context.flag_of_format("cnn2dDataFormat", "NCHW", "NHWC")
    inputs, outputs = _channels(context)
    times, over = context.settings.integer("depthMultiplier", 1, least=1), windows(context.settings, 2)
    bias = _bias(context, outputs)
    depthwise = context.take([times, inputs, *over.kernel], "C").transpose(1, 0, 2, 3)
    pointwise = context.take([outputs, times * inputs, 1, 1], "C")
    value = _input(context, inputs, over, last)
    value = _convolve(context, value, depthwise.reshape(inputs * times, 1, *over.kernel), None, over, inputs)
    return _activated(
        context, _convolve(context, value, pointwise, bias, Windows((1, 1), (1, 1), (0, 0), (1, 1), "Truncate")), last
    )


@covers(
    LAYERS,
    "DepthwiseConvolution2D",
    source="layers/convolution/DepthwiseConvolution2DLayer",
    shown="stored",
    takes=_taken(2, "NHWC"),
)
def depthwise(context: TranslationContext) -> Value:
    last = context.flag_of_format("cnn2dDataFormat", "NCHW", "NHWC")
    inputs, over = context.settings.integer("nIn", least=1), windows(context.settings, 2)
    times = context.settings.integer("depthMultiplier", 1, least=1)
    bias = _bias(context, inputs * times)
    weights = context.take([*over.kernel, inputs, times], "C").transpose(2, 3, 0, 1)
    value = _input(context, inputs, over, last)
    return _activated(
        context, _convolve(context, value, weights.reshape(inputs * times, 1, *over.kernel), bias, over, inputs), last
    )


@covers(
    LAYERS,
    "Deconvolution2D",
    source="layers/convolution/Deconvolution2DLayer",
    shown="computed",
    takes=_taken_back(2, "NHWC"),
)
def deconvolution_2d(context: TranslationContext) -> Value:
    last = context.flag_of_format("cnn2dDataFormat", "NCHW", "NHWC")
    inputs, outputs = _channels(context)
    over = windows(context.settings, 2)
    bias = _bias(context, outputs)
    return _deconvolution(context, context.take([inputs, outputs, *over.kernel], "C"), bias, over, last)


@covers(
    LAYERS,
    "Deconvolution3D",
    source="layers/convolution/Deconvolution3DLayer",
    shown="computed",
    takes=_taken_back(3, "NDHWC"),
)
def deconvolution_3d(context: TranslationContext) -> Value:
    last = context.flag_of_format("dataFormat", "NCDHW", "NDHWC")
    inputs, outputs = _channels(context)
    over = windows(context.settings, 3)
    bias = _bias(context, outputs)
    weights = context.take([*over.kernel, outputs, inputs], "C").transpose(4, 3, 0, 1, 2)
    return _deconvolution(context, weights, bias, over, last)


def _deconvolution(
    context: TranslationContext, weights: np.ndarray, bias: Optional[str], over: Windows, last: bool
) -> Value:
    """In mode "Same" the output is the stride times the input's size, and the padding what a convolution back would
    have (deconv2d of libnd4j)."""
    value = _input(context, weights.shape[0], over, last)
    pads, sizes, grown = [], [], 1
    for size, stride, padding, extent in zip(value.sizes[1:], over.stride, over.padding, over.extents):
        if over.mode != "Same":
            pads.append((padding, padding))
            given = -1 if size < 0 else stride * (size - 1) + extent - 2 * padding
            if size >= 0 > given - 1:
                context.refuse("its padding of %d leaves nothing" % padding)
            sizes.append(given)
            grown *= stride * grown_by(extent - 2 * padding - stride) if size < 0 else 1
            continue
        if extent < stride:
            context.refuse("a deconvolution in mode Same whose kernel is smaller than its stride is not covered")
        pads.append(((extent - stride) // 2, extent - stride - (extent - stride) // 2))
        sizes.append(-1 if size < 0 else stride * size)
        grown *= stride if size < 0 else 1
    # ONNX Runtime holds what each place of the input adds to its neighbours, before it adds them.
    context.value("", [weights.shape[1], *over.kernel, *value.sizes[1:]], value)
    before, after = zip(*pads)
    name = context.emit(
        "ConvTranspose",
        value.name,
        context.constant(weights),
        *([bias] if bias else []),
        kernel_shape=over.kernel,
        strides=over.stride,
        dilations=over.dilation,
        pads=[*before, *after],
    )
    return _activated(context, context.value(name, [weights.shape[1], *sizes], value, grown), last)


def _channels(context: TranslationContext) -> Sequence[int]:
    return context.settings.integer("nIn", least=1), context.settings.integer("nOut", least=1)


def _bias(context: TranslationContext, outputs: int) -> Optional[str]:
    return context.constant(context.take([outputs], "C"), "bias") if context.settings.flag("hasBias", True) else None


def _input(context: TranslationContext, channels: int, over: Windows, last: bool) -> Value:
    """With its channels first."""
    others = [-1] * len(over.kernel)
    sizes = [*others, channels] if last else [channels, *others]
    return context.channels_first(context.of(len(sizes), *sizes), last)


def _convolve(
    context: TranslationContext, value: Value, weights: np.ndarray, bias: Optional[str], over: Windows, groups: int = 1
) -> Value:
    """weights: [outputs, inputs of a group, kernel]."""
    sizes: List[int] = [weights.shape[0], *over.outputs(value.sizes[1:], context.settings)]
    # ONNX Runtime computes channels by sixteens, one alone too.
    context.value("", [max(sizes[0], 16), *sizes[1:]], value)
    inputs = [value.name, context.constant(weights), *([bias] if bias else [])]
    name = context.emit("Conv", *inputs, group=groups, **over.attributes(value.sizes[1:]))
    return context.value(name, sizes, value, over.grown(value.sizes[1:]))


def _activated(context: TranslationContext, value: Value, last: bool) -> Value:
    return context.channels_back(activated(context, value), last)
