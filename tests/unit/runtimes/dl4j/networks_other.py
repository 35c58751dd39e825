"""Networks of the remaining layers."""

from typing import Any

from tests.unit.runtimes.dl4j.configurations import activation, feed, multi_layer, output, plain
from tests.unit.runtimes.dl4j.network import Network, single

PRIORS = {"dataType": "FLOAT", "shape": [2, 2], "data": [1.5, 2.0, 0.5, 0.75]}
L2 = {"@class": "org.nd4j.linalg.lossfunctions.impl.LossL2"}


def yolo2(layout: str) -> dict[str, Any]:
    conf = plain("Yolo2OutputLayer", boundingBoxes=PRIORS, format=layout, lambdaCoord=5.0, lambdaNoObj=0.5)
    return conf | {"lossClassPredictions": L2, "lossPositionScale": L2}


def variational(distribution: str) -> dict[str, Any]:
    return feed(
        "VariationalAutoencoder",
        5,
        3,
        "TanH",
        decoderLayerSizes=[4],
        encoderLayerSizes=[7, 6],
        numSamples=1,
        outputDistribution={
            "@class": f"org.deeplearning4j.nn.conf.layers.variational.{distribution}ReconstructionDistribution",
            "activationFn": activation("Sigmoid"),
        },
        pzxActivationFn=activation("SoftSign"),
    )


OTHER: dict[str, Network] = {
    # 2 boxes of 5 + 4 classes each
    "yolo2": single(multi_layer(yolo2("NCHW")), 2, 18, 3, 5),
    "yolo2_nhwc": single(multi_layer(yolo2("NHWC")), 2, 3, 5, 18),
    "variational_autoencoder": single(multi_layer(variational("Gaussian"), output(3, 2)), 4, 5),
    "variational_autoencoder_bernoulli": single(multi_layer(variational("Bernoulli"), output(3, 2)), 4, 5),
}
