"""Networks of convolutions over images."""

from tests.unit.runtimes.dl4j.configurations import batch_normalization, convolution, multi_layer, output, preprocessor
from tests.unit.runtimes.dl4j.network import Network, single


def images(*layers: object, shape: tuple[int, ...] = (2, 3, 11, 13)) -> Network:
    return single(multi_layer(*layers), *shape)  # type: ignore[arg-type]


CONVOLUTION: dict[str, Network] = {
    "convolution": images(convolution(3, 5, [2, 3])),
    "convolution_named_2d": images(convolution(3, 5, [2, 3], name="Convolution2D")),
    "convolution_without_bias": images(convolution(3, 5, [2, 3], hasBias=False)),
    "convolution_strict": images(convolution(3, 5, [3, 3], convolutionMode="Strict", stride=[2, 2], padding=[0, 1])),
    "convolution_truncate_stride_padding": images(convolution(3, 5, [4, 3], stride=[3, 2], padding=[1, 2])),
    "convolution_dilation": images(convolution(3, 5, [2, 3], dilation=[3, 2])),
    "convolution_same": images(convolution(3, 5, [2, 4], convolutionMode="Same")),
    "convolution_same_stride": images(convolution(3, 5, [4, 3], convolutionMode="Same", stride=[3, 2])),
    # The padding is in the file, but ignored.
    "convolution_same_padding": images(convolution(3, 5, [4, 3], convolutionMode="Same", padding=[2, 1])),
    "convolution_same_dilation": images(convolution(3, 5, [2, 3], convolutionMode="Same", dilation=[3, 2])),
    "convolution_same_stride_beyond_kernel": images(convolution(3, 5, [1, 2], convolutionMode="Same", stride=[3, 4])),
    "convolution_softmax": images(convolution(3, 5, [2, 3], "Softmax")),
    "convolution_nhwc": images(convolution(3, 5, [2, 3], cnn2dDataFormat="NHWC"), shape=(2, 11, 13, 3)),
    "convolution_nhwc_same_softmax": images(
        convolution(3, 5, [2, 3], "Softmax", cnn2dDataFormat="NHWC", convolutionMode="Same", stride=[2, 1]),
        shape=(2, 11, 13, 3),
    ),
    "batch_norm_image": images(convolution(3, 5, [2, 3]), batch_normalization(5)),
    "batch_norm_image_variance": images(batch_normalization(3, useLogStd=False, eps=0.01)),
    "batch_norm_image_locked": images(batch_normalization(3, lockGammaBeta=True, gamma=1.5, beta=0.25)),
    "batch_norm_image_nhwc": images(batch_normalization(3, cnn2DFormat="NHWC"), shape=(2, 11, 13, 3)),
    "convolution_to_output": single(
        multi_layer(
            convolution(3, 5, [2, 3], stride=[3, 4]),
            output(60, 7),
            before={1: preprocessor("CnnToFeedForward", format="NCHW", inputHeight=4, inputWidth=3, numChannels=5)},
        ),
        *(2, 3, 11, 13),
    ),
    "convolution_nhwc_to_output": single(
        multi_layer(
            convolution(3, 5, [2, 3], stride=[3, 4], cnn2dDataFormat="NHWC"),
            output(60, 7),
            before={1: preprocessor("CnnToFeedForward", format="NHWC", inputHeight=4, inputWidth=3, numChannels=5)},
        ),
        *(2, 11, 13, 3),
    ),
}
