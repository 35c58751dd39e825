"""Pooling (SubsamplingLayer, Subsampling1D, Subsampling3D, GlobalPoolingLayer; libnd4j convolutions_pooling2d.cpp).

- Average: the divisor is the number of elements inside the image, unless avgPoolIncludePadInDivisor. A configuration
  without that field (beta3 and older) counts the padding: the field's default in the class is true, in the builder
  false. 3-D never counts it, and supports only MAX and AVG: any other type is an average there.
- SUM: the class has the type, but the layer raises "Not supported" for it. Here it is what the name suggests.
- MAX pads with the lowest number, so padding never wins. PNORM pads with 0.
- PNORM: `eps` is in the configuration, but not used at inference.
"""

import math

import numpy as np

from tests.unit.runtimes.dl4j.reference_convolution import layout_of
from tests.unit.runtimes.dl4j.reference_dense import Parameters
from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration
from tests.unit.runtimes.dl4j.reference_windows import back, channels_first, positions


def pool(x: Array, conf: Configuration, type_: str, padding_counts: bool) -> Array:
    """x: [N, C, spatial…]"""

    def under(values: Array, filling: float = 0.0) -> Array:
        return np.stack([each for _, each in positions(values, conf, filling)])

    if type_ == "MAX":
        return under(x, -np.inf).max(axis=0)
    if type_ == "PNORM":
        power = conf["pnorm"]
        return (under(np.abs(x)) ** power).sum(axis=0) ** (1 / power)
    if type_ == "SUM":
        return under(x).sum(axis=0)
    inside = math.prod(conf["kernelSize"]) if padding_counts else under(np.ones_like(x)).sum(axis=0)
    return under(x).sum(axis=0) / inside


def subsampling(x: Array, conf: Configuration, given: Parameters) -> Array:
    layout = layout_of(conf)
    padding_counts = conf.get("avgPoolIncludePadInDivisor", True)
    return back(pool(channels_first(x, layout), conf, conf["poolingType"], padding_counts), layout)


def subsampling_1d(x: Array, conf: Configuration, given: Parameters) -> Array:
    """Subsampling1DLayer: [N, C, T] is pooled as an image [N, C, T, 1]. For sequences of NWC, setNIn sets
    cnn2dDataFormat to NHWC: then [N, T, C] is pooled as [N, T, C, 1], along T, with one channel.

    Each list of the configuration has a second number, for the other axis: the class sets them to 1, 1 and 0.
    """
    return subsampling(x[..., None], {**conf, "rnnDataFormat": conf.get("cnn2dDataFormat")}, given)[..., 0]


def subsampling_3d(x: Array, conf: Configuration, given: Parameters) -> Array:
    layout = layout_of(conf)
    type_ = "MAX" if conf["poolingType"] == "MAX" else "AVG"
    return back(pool(channels_first(x, layout), conf, type_, False), layout)


def global_pooling(x: Array, conf: Configuration, given: Parameters) -> Array:
    """GlobalPoolingLayer.activate

    Without poolingDimensions, it pools over axis 2 and all later ones, whatever the data format. DL4J sets them for
    images if it knows the input type, but never for sequences: NWC is pooled over its features.
    collapseDimensions = false returns [N, x.shape[1], 1…], which in NHWC is right only by accident.
    """
    axes = tuple(conf.get("poolingDimensions") or range(2, x.ndim))
    match conf["poolingType"]:
        case "MAX":
            out = x.max(axis=axes)
        case "AVG":
            out = x.mean(axis=axes)
        case "SUM":
            out = x.sum(axis=axes)
        case "PNORM":
            out = (np.abs(x) ** conf["pnorm"]).sum(axis=axes) ** (1 / conf["pnorm"])
        case other:
            raise ValueError(other)
    if conf.get("collapseDimensions", True):
        return np.asarray(out)
    return np.asarray(out).reshape(x.shape[0], x.shape[1], *[1] * (x.ndim - 2))
