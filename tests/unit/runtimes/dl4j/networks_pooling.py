"""Networks that pool."""

from tests.unit.runtimes.dl4j.configurations import multi_layer, plain, pooling
from tests.unit.runtimes.dl4j.network import Network, single


def images(conf: dict[str, object], *shape: int) -> Network:
    return single(multi_layer(conf), *(shape or (2, 3, 11, 13)))


def everywhere(type_: str, **fields: object) -> dict[str, object]:
    values = {"collapseDimensions": True, "pnorm": 3, "poolingDimensions": None, "poolingType": type_}
    return plain("GlobalPoolingLayer", **{**values, **fields})


POOLING: dict[str, Network] = {
    "pooling_max": images(pooling("MAX", [2, 3], [2, 1])),
    "pooling_max_padding": images(pooling("MAX", [4, 3], [2, 3], padding=[2, 1])),
    "pooling_max_same": images(pooling("MAX", [4, 3], [3, 2], convolutionMode="Same")),
    "pooling_max_dilation": images(pooling("MAX", [2, 3], [2, 1], dilation=[3, 2])),
    "pooling_max_nhwc": images(pooling("MAX", [2, 3], [2, 1], cnn2dDataFormat="NHWC"), 2, 11, 13, 3),
    "pooling_average": images(pooling("AVG", [2, 3], [2, 1])),
    "pooling_average_padding": images(pooling("AVG", [4, 3], [2, 3], padding=[2, 1])),
    "pooling_average_padding_counts": images(
        pooling("AVG", [4, 3], [2, 3], padding=[2, 1], avgPoolIncludePadInDivisor=True)
    ),
    "pooling_average_same": images(pooling("AVG", [4, 3], [3, 2], convolutionMode="Same")),
    "pooling_average_same_counts": images(
        pooling("AVG", [4, 3], [3, 2], convolutionMode="Same", avgPoolIncludePadInDivisor=True)
    ),
    "pooling_average_nhwc": images(
        pooling("AVG", [4, 3], [2, 3], padding=[2, 1], cnn2dDataFormat="NHWC"), 2, 11, 13, 3
    ),
    "pooling_pnorm": images(pooling("PNORM", [2, 3], [2, 1], pnorm=3)),
    "pooling_pnorm_padding": images(pooling("PNORM", [4, 3], [2, 3], padding=[2, 1], pnorm=2)),
    "global_max_image": images(everywhere("MAX")),
    "global_average_image": images(everywhere("AVG", poolingDimensions=[2, 3])),
    "global_sum_image": images(everywhere("SUM")),
    "global_pnorm_image": images(everywhere("PNORM")),
    "global_average_image_nhwc": images(everywhere("AVG", poolingDimensions=[1, 2]), 2, 11, 13, 3),
    "global_average_image_kept": images(everywhere("AVG", collapseDimensions=False)),
    "global_max_sequence": images(everywhere("MAX"), 2, 5, 7),
    "global_average_sequence": images(everywhere("AVG"), 2, 5, 7),
    "global_sum_sequence": images(everywhere("SUM"), 2, 5, 7),
    "global_pnorm_sequence": images(everywhere("PNORM"), 2, 5, 7),
    "global_average_sequence_kept": images(everywhere("AVG", collapseDimensions=False), 2, 5, 7),
    "global_average_sequence_nwc": images(everywhere("AVG", poolingDimensions=[1]), 2, 7, 5),
    "global_max_volume": images(everywhere("MAX"), 2, 3, 4, 5, 7),
}
# beta3 and older do not write this field, and the class's default includes padding.
POOLING["pooling_average_padding_unsaid"] = images(pooling("AVG", [4, 3], [2, 3], padding=[2, 1]))
del POOLING["pooling_average_padding_unsaid"].configuration["confs"][0]["layer"]["avgPoolIncludePadInDivisor"]
