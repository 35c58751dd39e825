"""Convolutions (org.deeplearning4j.nn.layers.convolution). The activation sees the layer's own data format:
softmax on NCHW is over the width."""

import itertools
from typing import Any

import numpy as np

from tests.unit.runtimes.dl4j.reference_dense import Parameters, act
from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration, kind
from tests.unit.runtimes.dl4j.reference_windows import back, channels_first, positions

# This field is not one of DL4J's.
BEFORE_M1 = "before M1"


def layout_of(conf: Configuration) -> str:
    """1-D: rnnDataFormat; 3-D: dataFormat; both classes inherit cnn2dDataFormat, which they do not read."""
    name = kind(conf)
    key = "rnnDataFormat" if "1D" in name else "dataFormat" if "3D" in name else "cnn2dDataFormat"
    return str(conf.get(key) or "channels first")


def finish(out: Array, conf: Configuration, given: Parameters, layout: str) -> Array:
    """out: [N, C, spatial…], without bias"""
    if "b" in given:
        out = out + given["b"].reshape(-1, *[1] * (out.ndim - 2))
    return act(back(out, layout), conf)


def at(x: Array, place: tuple[Any, ...]) -> Array:
    """Return a view of [a, b, spatial…] at indices or slices of the spatial axes."""
    return np.asarray(x[(slice(None), slice(None), *place)])


def convolve(x: Array, weights: Array, conf: Configuration) -> Array:
    """x: [N, C, spatial…]; weights: [O, C, kernel…]"""
    parts = (np.einsum("nc...,oc->no...", under, at(weights, place)) for place, under in positions(x, conf, 0.0))
    return np.asarray(sum(parts))


def convolution(x: Array, conf: Configuration, given: Parameters) -> Array:
    """ConvolutionLayer and Convolution3DLayer"""
    layout = layout_of(conf)
    return finish(convolve(channels_first(x, layout), given["W"], conf), conf, given, layout)


def convolution_1d(x: Array, conf: Configuration, given: Parameters) -> Array:
    """Convolution1DLayer: the parameter is [out, in, k, 1].

    Up to beta7 it is transposed to libnd4j's [k, in, out]. From M1 on (September 2020) the same numbers are
    RESHAPED to [k, in, out] (Convolution1DUtils.reshapeWeightArrayOrGradientForFormat, always called with NCW): the
    axes are read in reverse, so the same file computes something else. The file does not record which applies.
    This follows M1, unless reference.before_m1 marked the layer.
    """
    layout, (n_out, n_in, k, _) = layout_of(conf), given["W"].shape
    reread = given["W"].reshape(k, n_in, n_out).transpose(2, 1, 0)
    weights = given["W"][..., 0] if conf.get(BEFORE_M1) else reread
    return finish(convolve(channels_first(x, layout), weights, conf), conf, given, layout)


def depthwise(x: Array, conf: Configuration, given: Parameters) -> Array:
    """depthwise_conv2d: output channel c · multiplier + m"""
    layout = layout_of(conf)
    weights = np.moveaxis(given["W"], (2, 3), (1, 0))  # [kh, kw, c, m] → [m, c, kh, kw]
    return finish(per_channel(channels_first(x, layout), weights, conf), conf, given, layout)


def per_channel(x: Array, weights: Array, conf: Configuration) -> Array:
    """weights: [multiplier, C, kh, kw] → [N, C · multiplier, oh, ow]"""
    parts = (np.einsum("nc...,mc->ncm...", under, at(weights, place)) for place, under in positions(x, conf, 0.0))
    out = np.asarray(sum(parts))
    return out.reshape(x.shape[0], -1, *out.shape[3:])


def separable(x: Array, conf: Configuration, given: Parameters) -> Array:
    """sconv2d: stride, padding and dilation belong to the depthwise half"""
    layout = layout_of(conf)
    between = per_channel(channels_first(x, layout), given["W"], conf)
    return finish(np.einsum("nc...,oc->no...", between, given["pW"][:, :, 0, 0]), conf, given, layout)


def deconvolve(x: Array, weights: Array, conf: Configuration) -> Array:
    """x: [N, C, spatial…]; weights: [C, O, kernel…] (libnd4j deconv2d, deconv3d)

    Same: out = stride · in, cut as the convolution from out to in would have padded it.
    """
    rank = x.ndim - 2
    kernel, stride, dilation = (list(conf.get(key, [1] * 3))[:rank] for key in ("kernelSize", "stride", "dilation"))
    full = [
        step * (size - 1) + (k - 1) * spread + 1
        for step, size, k, spread in zip(stride, x.shape[2:], kernel, dilation, strict=True)
    ]
    out = np.zeros((x.shape[0], weights.shape[1], *full))
    for place in itertools.product(*(range(k) for k in kernel)):
        target = tuple(
            slice(at * spread, at * spread + (size - 1) * step + 1, step)
            for at, spread, size, step in zip(place, dilation, x.shape[2:], stride, strict=True)
        )
        at(out, target)[...] += np.einsum("nc...,co->no...", x, at(weights, place))
    for axis, whole in enumerate(full):
        if conf.get("convolutionMode") == "Same":
            size = stride[axis] * x.shape[2 + axis]
            before = int((whole - size) / 2)  # C truncates toward 0; negative if the stride exceeds the kernel
        else:
            before = conf["padding"][axis]
            size = whole - 2 * before
        out = cut(out, 2 + axis, before, size)
    return out


def cut(x: Array, axis: int, start: int, size: int) -> Array:
    """size elements from start on; zeros where there are none"""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (max(0, -start), max(0, start + size - x.shape[axis]))
    return np.take(np.pad(x, widths), range(max(0, start), max(0, start) + size), axis=axis)


def deconvolution(x: Array, conf: Configuration, given: Parameters) -> Array:
    """Deconvolution2DLayer: W is [in, out, kh, kw]; Deconvolution3DLayer: [k…, out, in]"""
    layout = layout_of(conf)
    weights = given["W"] if x.ndim == 4 else given["W"].transpose(4, 3, 0, 1, 2)
    return finish(deconvolve(channels_first(x, layout), weights, conf), conf, given, layout)
