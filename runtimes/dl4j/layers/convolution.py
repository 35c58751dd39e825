"""Convolutions. In all of them the bias lies before the weights (ConvolutionParamInitializer)."""

from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..activations import activated
from ..registry import LAYERS, Takes, covers, spatial
from ..settings import Settings
from ..site import Site, grown_by
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
def convolution_2d(site: Site) -> Value:
    last = site.flag_of_format("cnn2dDataFormat", "NCHW", "NHWC")
    return _convolution(site, windows(site.settings, 2), last)


@covers(
    LAYERS,
    "Convolution1DLayer",
    source="layers/convolution/Convolution1DLayer",
    shown="computed",
    takes=_taken(1, "NWC"),
)
def convolution_1d(site: Site) -> Value:
    """To M1 the same numbers are [kernel, inputs, outputs] as they lie there; to all before, [outputs, inputs, kernel].
    beta7 was the first to write the data's format, which is all by which a file of M1's differs from older ones."""
    last, over = site.flag_of_format("rnnDataFormat", "NCW", "NWC"), windows(site.settings, 1)
    inputs, outputs = _channels(site)
    bias = _bias(site, outputs)
    weights = site.take([outputs, inputs, *over.kernel], "C")
    told, alike = site.choices.convolution_1d, sum(size > 1 for size in weights.shape) <= 1
    if site.settings.get("rnnDataFormat") is not None and not told and not alike:
        site.refuse(
            "its weights mean one thing in beta7's files and another in M1's, and the file does not tell which of them "
            'wrote it: say convolution_1d = "beta7" or "M1" in [parameters]'
        )
    if site.settings.get("rnnDataFormat") is not None and told == "M1":
        weights = np.ascontiguousarray(weights.reshape(weights.shape[::-1]).transpose(2, 1, 0))
    value = _input(site, inputs, over, last)
    return _activated(site, _convolve(site, value, weights, bias, over), last)


@covers(
    LAYERS,
    "Convolution3D",
    source="layers/convolution/Convolution3DLayer",
    shown="computed",
    takes=_taken(3, "NDHWC", None),
)
def convolution_3d(site: Site) -> Value:
    last = site.flag_of_format("dataFormat", "NCDHW", "NDHWC")
    return _convolution(site, windows(site.settings, 3, default=None), last)


def _convolution(site: Site, over: Windows, last: bool) -> Value:
    inputs, outputs = _channels(site)
    bias = _bias(site, outputs)
    weights = site.take([outputs, inputs, *over.kernel], "C")
    value = _input(site, inputs, over, last)
    return _activated(site, _convolve(site, value, weights, bias, over), last)


@covers(
    LAYERS,
    "SeparableConvolution2D",
    source="layers/convolution/SeparableConvolution2DLayer",
    shown="stored",
    takes=_taken(2, "NHWC"),
)
def separable(site: Site) -> Value:
    """Each channel by kernels of its own, then all of them by 1 x 1; the bias belongs to the second."""
    last = site.flag_of_format("cnn2dDataFormat", "NCHW", "NHWC")
    inputs, outputs = _channels(site)
    times, over = site.settings.integer("depthMultiplier", 1, least=1), windows(site.settings, 2)
    bias = _bias(site, outputs)
    depthwise = site.take([times, inputs, *over.kernel], "C").transpose(1, 0, 2, 3)
    pointwise = site.take([outputs, times * inputs, 1, 1], "C")
    value = _input(site, inputs, over, last)
    value = _convolve(site, value, depthwise.reshape(inputs * times, 1, *over.kernel), None, over, inputs)
    return _activated(
        site, _convolve(site, value, pointwise, bias, Windows((1, 1), (1, 1), (0, 0), (1, 1), "Truncate")), last
    )


@covers(
    LAYERS,
    "DepthwiseConvolution2D",
    source="layers/convolution/DepthwiseConvolution2DLayer",
    shown="stored",
    takes=_taken(2, "NHWC"),
)
def depthwise(site: Site) -> Value:
    last = site.flag_of_format("cnn2dDataFormat", "NCHW", "NHWC")
    inputs, over = site.settings.integer("nIn", least=1), windows(site.settings, 2)
    times = site.settings.integer("depthMultiplier", 1, least=1)
    bias = _bias(site, inputs * times)
    weights = site.take([*over.kernel, inputs, times], "C").transpose(2, 3, 0, 1)
    value = _input(site, inputs, over, last)
    return _activated(
        site, _convolve(site, value, weights.reshape(inputs * times, 1, *over.kernel), bias, over, inputs), last
    )


@covers(
    LAYERS,
    "Deconvolution2D",
    source="layers/convolution/Deconvolution2DLayer",
    shown="computed",
    takes=_taken_back(2, "NHWC"),
)
def deconvolution_2d(site: Site) -> Value:
    last = site.flag_of_format("cnn2dDataFormat", "NCHW", "NHWC")
    inputs, outputs = _channels(site)
    over = windows(site.settings, 2)
    bias = _bias(site, outputs)
    return _deconvolution(site, site.take([inputs, outputs, *over.kernel], "C"), bias, over, last)


@covers(
    LAYERS,
    "Deconvolution3D",
    source="layers/convolution/Deconvolution3DLayer",
    shown="computed",
    takes=_taken_back(3, "NDHWC"),
)
def deconvolution_3d(site: Site) -> Value:
    last = site.flag_of_format("dataFormat", "NCDHW", "NDHWC")
    inputs, outputs = _channels(site)
    over = windows(site.settings, 3)
    bias = _bias(site, outputs)
    weights = site.take([*over.kernel, outputs, inputs], "C").transpose(4, 3, 0, 1, 2)
    return _deconvolution(site, weights, bias, over, last)


def _deconvolution(site: Site, weights: np.ndarray, bias: Optional[str], over: Windows, last: bool) -> Value:
    """In mode "Same" the output is the stride times the input's size, and the padding what a convolution back would
    have (deconv2d of libnd4j)."""
    value = _input(site, weights.shape[0], over, last)
    pads, sizes, grown = [], [], 1
    for size, stride, padding, extent in zip(value.sizes[1:], over.stride, over.padding, over.extents):
        if over.mode != "Same":
            pads.append((padding, padding))
            given = -1 if size < 0 else stride * (size - 1) + extent - 2 * padding
            if size >= 0 > given - 1:
                site.refuse("its padding of %d leaves nothing" % padding)
            sizes.append(given)
            grown *= stride * grown_by(extent - 2 * padding - stride) if size < 0 else 1
            continue
        if extent < stride:
            site.refuse("a deconvolution in mode Same whose kernel is smaller than its stride is not covered")
        pads.append(((extent - stride) // 2, extent - stride - (extent - stride) // 2))
        sizes.append(-1 if size < 0 else stride * size)
        grown *= stride if size < 0 else 1
    # ONNX Runtime holds what each place of the input adds to its neighbours, before it adds them.
    site.value("", [weights.shape[1], *over.kernel, *value.sizes[1:]], value)
    before, after = zip(*pads)
    name = site.emit(
        "ConvTranspose",
        value.name,
        site.constant(weights),
        *([bias] if bias else []),
        kernel_shape=over.kernel,
        strides=over.stride,
        dilations=over.dilation,
        pads=[*before, *after],
    )
    return _activated(site, site.value(name, [weights.shape[1], *sizes], value, grown), last)


def _channels(site: Site) -> Sequence[int]:
    return site.settings.integer("nIn", least=1), site.settings.integer("nOut", least=1)


def _bias(site: Site, outputs: int) -> Optional[str]:
    return site.constant(site.take([outputs], "C"), "bias") if site.settings.flag("hasBias", True) else None


def _input(site: Site, channels: int, over: Windows, last: bool) -> Value:
    """With its channels first."""
    others = [-1] * len(over.kernel)
    sizes = [*others, channels] if last else [channels, *others]
    return site.channels_first(site.of(len(sizes), *sizes), last)


def _convolve(
    site: Site, value: Value, weights: np.ndarray, bias: Optional[str], over: Windows, groups: int = 1
) -> Value:
    """weights: [outputs, inputs of a group, kernel]."""
    sizes: List[int] = [weights.shape[0], *over.outputs(value.sizes[1:], site.settings)]
    # ONNX Runtime computes channels by sixteens, one alone too.
    site.value("", [max(sizes[0], 16), *sizes[1:]], value)
    inputs = [value.name, site.constant(weights), *([bias] if bias else [])]
    name = site.emit("Conv", *inputs, group=groups, **over.attributes(value.sizes[1:]))
    return site.value(name, sizes, value, over.grown(value.sizes[1:]))


def _activated(site: Site, value: Value, last: bool) -> Value:
    return site.channels_back(activated(site, value), last)
