"""The networks' convolutions and poolings again, as plain loops over all values, like libnd4j's."""

import itertools
from typing import Any

import numpy as np
import pytest

from tests.unit.runtimes.dl4j import reference
from tests.unit.runtimes.dl4j.networks import NETWORKS
from tests.unit.runtimes.dl4j.reference_activations import activate
from tests.unit.runtimes.dl4j.reference_parameters import kind

CONVOLVING = ("ConvolutionLayer", "Convolution2D")
POOLING = ("SubsamplingLayer",)
TRANSPOSED = ("Deconvolution2D",)


def alone(kinds: tuple[str, ...]) -> list[str]:
    """Networks of a single layer of one of these kinds, with channels first."""
    found = []
    for name, network in NETWORKS.items():
        layers = [each["layer"] for each in network.configuration.get("confs", [])]
        if len(layers) == 1 and kind(layers[0]) in kinds and layers[0].get("cnn2dDataFormat") != "NHWC":
            found.append(name)
    assert found
    return found


def start_and_size(size: int, axis: int, conf: dict[str, Any]) -> tuple[int, int]:
    """calcPadding2D, calcOutSizePool2D → zeros before, output's size"""
    k, s, d = (conf[key][axis] for key in ("kernelSize", "stride", "dilation"))
    if conf["convolutionMode"] == "Same":
        out = int(np.ceil(size / s))
        return int(((out - 1) * s + (k - 1) * d + 1 - size) / 2), out
    return conf["padding"][axis], (size - ((k - 1) * d + 1) + 2 * conf["padding"][axis]) // s + 1


def under(x: np.ndarray, conf: dict[str, Any], oh: int, ow: int) -> list[tuple[int, int, np.ndarray]]:
    """Return the kernel's elements that are inside the image at this output pixel: (row, column, pixel [N, C])."""
    (ph, _), (pw, _) = (start_and_size(x.shape[2 + axis], axis, conf) for axis in range(2))
    found = []
    for i, j in itertools.product(*(range(k) for k in conf["kernelSize"])):
        row = oh * conf["stride"][0] - ph + i * conf["dilation"][0]
        column = ow * conf["stride"][1] - pw + j * conf["dilation"][1]
        if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
            found.append((i, j, x[:, :, row, column]))
    return found


def sizes(x: np.ndarray, conf: dict[str, Any]) -> list[int]:
    return [start_and_size(x.shape[2 + axis], axis, conf)[1] for axis in range(2)]


def prepared(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray], np.ndarray, np.ndarray]:
    network = NETWORKS[name]
    given = reference.split(network.configuration, network.coefficients())["0"]
    (x,) = network.samples().values()
    return network.configuration["confs"][0]["layer"], given, x.astype(float), network.outputs()[0]


@pytest.mark.parametrize("name", alone(CONVOLVING))
def test_convolution(name: str) -> None:
    conf, given, x, expected = prepared(name)
    out = np.zeros((x.shape[0], conf["nout"], *sizes(x, conf)))
    for oh, ow in np.ndindex(*out.shape[2:]):
        for i, j, pixel in under(x, conf, oh, ow):
            out[:, :, oh, ow] += pixel @ given["W"][:, :, i, j].T
    out += given.get("b", np.zeros(1))[:, None, None]
    np.testing.assert_allclose(activate(out, conf["activationFn"]), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", alone(POOLING))
def test_pooling(name: str) -> None:
    conf, _, x, expected = prepared(name)
    out = np.zeros((*x.shape[:2], *sizes(x, conf)))
    for oh, ow in np.ndindex(*out.shape[2:]):
        pixels = np.stack([pixel for _, _, pixel in under(x, conf, oh, ow)])
        if conf["poolingType"] == "MAX":
            out[:, :, oh, ow] = pixels.max(axis=0)
        elif conf["poolingType"] == "PNORM":
            out[:, :, oh, ow] = (np.abs(pixels) ** conf["pnorm"]).sum(axis=0) ** (1 / conf["pnorm"])
        elif conf.get("avgPoolIncludePadInDivisor", True):
            out[:, :, oh, ow] = pixels.sum(axis=0) / np.prod(conf["kernelSize"])
        else:
            out[:, :, oh, ow] = pixels.mean(axis=0)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", alone(TRANSPOSED))
def test_deconvolution(name: str) -> None:
    """deconv2d: padding as that of the convolution from output to input, then col2im."""
    conf, given, x, expected = prepared(name)
    out = np.zeros((x.shape[0], conf["nout"], *expected.shape[2:]))
    before = list(conf["padding"])
    if conf["convolutionMode"] == "Same":
        for axis in range(2):
            k, s, d = (conf[key][axis] for key in ("kernelSize", "stride", "dilation"))
            size = x.shape[2 + axis]
            assert expected.shape[2 + axis] == s * size
            before[axis] = int(((size - 1) * s + (k - 1) * d + 1 - s * size) / 2)
    for ih, iw in np.ndindex(*x.shape[2:]):
        for i, j in np.ndindex(*conf["kernelSize"]):
            row = ih * conf["stride"][0] - before[0] + i * conf["dilation"][0]
            column = iw * conf["stride"][1] - before[1] + j * conf["dilation"][1]
            if 0 <= row < out.shape[2] and 0 <= column < out.shape[3]:
                out[:, :, row, column] += x[:, :, ih, iw] @ given["W"][:, :, i, j]
    out += given["b"][:, None, None]
    np.testing.assert_allclose(activate(out, conf["activationFn"]), expected, rtol=0, atol=1e-12)
