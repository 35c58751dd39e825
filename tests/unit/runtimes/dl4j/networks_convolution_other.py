"""Networks of convolutions in 1-D and 3-D, transposed, per channel, and locally connected ones."""

from collections.abc import Sequence
from typing import Any

from tests.unit.runtimes.dl4j.configurations import convolution, multi_layer, plain
from tests.unit.runtimes.dl4j.network import Network, single

IMAGE, VOLUME, SEQUENCE = (2, 3, 11, 13), (2, 3, 5, 6, 7), (4, 3, 11)
LAST = (2, 11, 13, 3)


def one(conf: dict[str, Any], shape: tuple[int, ...]) -> Network:
    return single(multi_layer(conf), *shape)


def sequence(**fields: Any) -> dict[str, Any]:
    """A 1-D kernel of 4: lists have a second number, for an axis of 1."""
    return convolution(3, 5, [4, 1], name="Convolution1DLayer", **{"rnnDataFormat": "NCW", **fields})


def volume(kernel: Sequence[int] = (2, 3, 4), name: str = "Convolution3D", **fields: Any) -> dict[str, Any]:
    """Convolution3D's field `mode` is always Same, whatever convolutionMode is, and is not read."""
    mode = {"mode": "Same"} if name == "Convolution3D" else {}
    return convolution(3, 5, kernel, name=name, **{"dataFormat": "NCDHW", **mode, **fields})


def transposed(**fields: Any) -> dict[str, Any]:
    return convolution(3, 5, fields.pop("kernel", [2, 3]), name="Deconvolution2D", **fields)


def depthwise(multiplier: int, **fields: Any) -> dict[str, Any]:
    fields = {"depthMultiplier": multiplier, **fields}
    return convolution(3, 3 * multiplier, [2, 3], name="DepthwiseConvolution2D", **fields)


def separable(multiplier: int, **fields: Any) -> dict[str, Any]:
    return convolution(3, 7, [2, 3], name="SeparableConvolution2D", **{"depthMultiplier": multiplier, **fields})


def local(name: str, **fields: Any) -> dict[str, Any]:
    values = {"activation": "TANH", "cm": "Truncate", "hasBias": True, "nin": 3, "nout": 5}
    return plain(name, **{"biasUpdater": None, "paramWeightInit": None, "regularization": [], **values, **fields})


def local_image(**fields: Any) -> dict[str, Any]:
    values = {
        "dilation": [1, 1],
        "featureDim": 18,
        "format": "NCHW",
        "inputSize": [5, 7],
        "kernel": [2, 3],
        "outputSize": [4, 3],
        "padding": [0, 0],
        "paddingBr": None,
        "stride": [1, 2],
    }
    return local("LocallyConnected2D", **{**values, **fields})


def local_sequence(**fields: Any) -> dict[str, Any]:
    values = {"dilation": 1, "featureDim": 12, "inputSize": 11, "kernel": 4, "padding": 0, "paddingR": 0, "stride": 2}
    return local("LocallyConnected1D", **{**values, "outputSize": 4, **fields})


OTHER_CONVOLUTION: dict[str, Network] = {
    "convolution_1d": one(sequence(), SEQUENCE),
    "convolution_1d_without_bias": one(sequence(hasBias=False), SEQUENCE),
    "convolution_1d_stride_padding_dilation": one(sequence(stride=[2, 1], padding=[3, 0], dilation=[2, 1]), SEQUENCE),
    "convolution_1d_same": one(sequence(convolutionMode="Same", stride=[2, 1]), SEQUENCE),
    "convolution_1d_causal": one(sequence(convolutionMode="Causal"), SEQUENCE),
    "convolution_1d_causal_stride_dilation": one(
        sequence(convolutionMode="Causal", stride=[3, 1], dilation=[2, 1]), SEQUENCE
    ),
    "convolution_1d_nwc": one(sequence(rnnDataFormat="NWC"), (4, 11, 3)),
    "convolution_1d_named": one({**sequence(), "@class": "org.deeplearning4j.nn.conf.layers.Convolution1D"}, SEQUENCE),
    "convolution_3d": one(volume(), VOLUME),
    "convolution_3d_same": one(volume(convolutionMode="Same", stride=[2, 1, 3]), VOLUME),
    "convolution_3d_padding_dilation": one(volume((2, 3, 2), padding=[1, 2, 0], dilation=[2, 1, 3]), VOLUME),
    "convolution_3d_ndhwc": one(volume(dataFormat="NDHWC"), (2, 5, 6, 7, 3)),
    "deconvolution": one(transposed(), IMAGE),
    "deconvolution_stride_padding": one(transposed(kernel=[4, 3], stride=[3, 2], padding=[1, 1]), IMAGE),
    "deconvolution_dilation": one(transposed(stride=[2, 1], dilation=[3, 2]), IMAGE),
    "deconvolution_same": one(transposed(kernel=[4, 3], stride=[3, 2], convolutionMode="Same"), IMAGE),
    "deconvolution_same_stride_beyond_kernel": one(
        transposed(kernel=[1, 2], stride=[3, 3], convolutionMode="Same"), IMAGE
    ),
    "deconvolution_nhwc": one(transposed(stride=[3, 2], cnn2dDataFormat="NHWC"), LAST),
    "deconvolution_3d": one(volume(name="Deconvolution3D"), VOLUME),
    "deconvolution_3d_stride_padding": one(
        volume(name="Deconvolution3D", stride=[2, 1, 3], padding=[1, 0, 1], hasBias=False), VOLUME
    ),
    "deconvolution_3d_same": one(volume(name="Deconvolution3D", stride=[2, 1, 3], convolutionMode="Same"), VOLUME),
    "deconvolution_3d_ndhwc": one(volume(name="Deconvolution3D", dataFormat="NDHWC"), (2, 5, 6, 7, 3)),
    "depthwise": one(depthwise(1), IMAGE),
    "depthwise_multiplier": one(depthwise(2, stride=[2, 1], padding=[1, 2]), IMAGE),
    "depthwise_multiplier_without_bias": one(depthwise(2, hasBias=False), IMAGE),
    "depthwise_same_dilation": one(depthwise(2, convolutionMode="Same", dilation=[3, 2]), IMAGE),
    "depthwise_nhwc": one(depthwise(2, cnn2dDataFormat="NHWC"), LAST),
    "separable": one(separable(1), IMAGE),
    "separable_multiplier": one(separable(2, stride=[2, 1], padding=[1, 2]), IMAGE),
    "separable_multiplier_without_bias": one(separable(2, hasBias=False), IMAGE),
    "separable_same_dilation": one(separable(2, convolutionMode="Same", dilation=[3, 2]), IMAGE),
    "separable_nhwc": one(separable(2, cnn2dDataFormat="NHWC"), LAST),
    "locally_connected_1d": one(local_sequence(), SEQUENCE),
    "locally_connected_1d_same": one(local_sequence(cm="Same", outputSize=6, padding=1, paddingR=2), SEQUENCE),
    "locally_connected_2d": one(local_image(), (2, 3, 5, 7)),
    "locally_connected_2d_without_bias": one(local_image(hasBias=False), (2, 3, 5, 7)),
    "locally_connected_2d_same": one(
        local_image(cm="Same", outputSize=[5, 4], padding=[0, 1], paddingBr=[1, 1]), (2, 3, 5, 7)
    ),
    "locally_connected_2d_nhwc": one(local_image(format="NHWC"), (2, 5, 7, 3)),
}
