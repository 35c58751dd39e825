"""Networks that pad, crop, upsample or rearrange, that pool in 1-D and 3-D, and normalize over channels."""

from typing import Any

from tests.unit.runtimes.dl4j.configurations import (
    LOSS,
    batch_normalization,
    convolution,
    layer,
    multi_layer,
    plain,
    pooling,
)
from tests.unit.runtimes.dl4j.network import Network, single

IMAGE, VOLUME, SEQUENCE = (2, 3, 6, 8), (2, 3, 5, 6, 7), (4, 3, 11)
LAST = (2, 6, 8, 3)


def one(conf: dict[str, Any], shape: tuple[int, ...]) -> Network:
    return single(multi_layer(conf), *shape)


def local_response(**fields: Any) -> dict[str, Any]:
    """alpha is large enough to have a visible effect"""
    values = {"alpha": 0.3, "beta": 0.75, "cudnnAllowFallback": True, "dataFormat": "NCHW", "k": 2.0, "n": 3.0}
    return plain("LocalResponseNormalization", **{**values, **fields})


def sequence(type_: str, **fields: Any) -> dict[str, Any]:
    return pooling(type_, [4, 1], [2, 1], "Subsampling1DLayer", **fields)


def volume(type_: str, **fields: Any) -> dict[str, Any]:
    return pooling(type_, [2, 3, 4], [2, 1, 3], "Subsampling3DLayer", **{"dataFormat": "NCDHW", **fields})


SHAPES: dict[str, Network] = {
    "zero_padding_1d": one(plain("ZeroPadding1DLayer", padding=[1, 2]), SEQUENCE),
    "zero_padding_2d": one(plain("ZeroPaddingLayer", dataFormat="NCHW", padding=[1, 2, 3, 0]), IMAGE),
    "zero_padding_2d_nhwc": one(plain("ZeroPaddingLayer", dataFormat="NHWC", padding=[1, 2, 3, 0]), LAST),
    "zero_padding_3d": one(plain("ZeroPadding3DLayer", padding=[1, 2, 3, 0, 2, 1]), VOLUME),
    "cropping_1d": one(plain("Cropping1D", cropping=[1, 2]), SEQUENCE),
    "cropping_2d": one(plain("Cropping2D", cropping=[1, 2, 3, 0], dataFormat="NCHW"), IMAGE),
    "cropping_2d_nhwc": one(plain("Cropping2D", cropping=[1, 2, 3, 0], dataFormat="NHWC"), LAST),
    "cropping_3d": one(plain("Cropping3D", cropping=[1, 2, 3, 0, 2, 1]), VOLUME),
    "upsampling_1d": one(plain("Upsampling1D", size=[3, 3]), SEQUENCE),
    "upsampling_2d": one(plain("Upsampling2D", format="NCHW", size=[2, 3]), IMAGE),
    "upsampling_2d_nhwc": one(plain("Upsampling2D", format="NHWC", size=[2, 3]), LAST),
    "upsampling_3d": one(plain("Upsampling3D", dataFormat="NCDHW", size=[2, 3, 4]), VOLUME),
    "upsampling_3d_ndhwc": one(plain("Upsampling3D", dataFormat="NDHWC", size=[2, 3, 4]), (2, 5, 6, 7, 3)),
    "space_to_depth": one(plain("SpaceToDepthLayer", blockSize=2, dataFormat="NCHW"), IMAGE),
    "space_to_depth_nhwc": one(plain("SpaceToDepthLayer", blockSize=2, dataFormat="NHWC"), LAST),
    "space_to_batch": one(plain("SpaceToBatchLayer", blocks=[2, 3], format="NCHW", padding=[[0, 2], [1, 0]]), IMAGE),
    "space_to_batch_nhwc": one(
        plain("SpaceToBatchLayer", blocks=[2, 3], format="NHWC", padding=[[0, 2], [1, 0]]), LAST
    ),
    "pooling_1d_max": one(sequence("MAX", padding=[1, 0]), SEQUENCE),
    "pooling_1d_average": one(sequence("AVG", padding=[1, 0]), SEQUENCE),
    "pooling_1d_average_same": one(sequence("AVG", convolutionMode="Same"), SEQUENCE),
    "pooling_1d_nwc": one(sequence("MAX", padding=[1, 0], cnn2dDataFormat="NHWC"), (4, 11, 3)),
    "pooling_1d_average_same_nwc": one(sequence("AVG", convolutionMode="Same", cnn2dDataFormat="NHWC"), (4, 11, 3)),
    "pooling_1d_pnorm": one(sequence("PNORM", pnorm=2), SEQUENCE),
    "pooling_3d_max": one(volume("MAX"), VOLUME),
    "pooling_3d_average_padding": one(volume("AVG", padding=[1, 1, 2]), VOLUME),
    "pooling_3d_average_same": one(volume("AVG", convolutionMode="Same"), VOLUME),
    "pooling_3d_ndhwc": one(volume("MAX", dataFormat="NDHWC"), (2, 5, 6, 7, 3)),
    "local_response": one(local_response(), (2, 7, 3, 5)),
    "local_response_even": one(local_response(n=4.0), (2, 7, 3, 5)),
    "local_response_nhwc": one(local_response(dataFormat="NHWC", n=5.0), (2, 3, 5, 7)),
    # The only form of batch normalization over sequences that works as expected.
    "batch_norm_sequence_nwc": one(batch_normalization(3, cnn2DFormat="NHWC"), (4, 7, 3)),
    # The batch is mistaken for the channels. It only works because both have the same size.
    "batch_norm_sequence_batch_as_channels": one(batch_normalization(3), (3, 3, 7)),
    "cnn_loss_softmax": single(
        multi_layer(convolution(3, 5, [2, 3]), layer("CnnLossLayer", "Softmax", format="NCHW", lossFn=LOSS)), *IMAGE
    ),
    "cnn_loss_softmax_nhwc": one(layer("CnnLossLayer", "Softmax", format="NHWC", lossFn=LOSS), LAST),
    "cnn_3d_loss_softmax": one(layer("Cnn3DLossLayer", "Softmax", dataFormat="NCDHW", lossFn=LOSS), VOLUME),
    "cnn_3d_loss_softmax_ndhwc": one(
        layer("Cnn3DLossLayer", "Softmax", dataFormat="NDHWC", lossFn=LOSS), (2, 5, 6, 7, 3)
    ),
}
