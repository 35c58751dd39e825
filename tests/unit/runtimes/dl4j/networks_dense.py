"""Networks over rows, and every activation."""

from typing import Any

from tests.unit.runtimes.dl4j.configurations import (
    LOSS,
    activation,
    batch_normalization,
    dense,
    feed,
    layer,
    multi_layer,
    output,
    plain,
    wrapper,
)
from tests.unit.runtimes.dl4j.network import Network, single

ACTIVATIONS: dict[str, dict[str, Any]] = {
    "cube": activation("Cube"),
    "elu": activation("ELU", alpha=0.7),
    "gelu": activation("GELU", precise=False),
    "gelu_precise": activation("GELU", precise=True),
    "hard_sigmoid": activation("HardSigmoid"),
    "hard_tanh": activation("HardTanH"),
    "identity": activation("Identity"),
    "leaky_relu": activation("LReLU", alpha=0.2),
    "mish": activation("Mish"),
    "rational_tanh": activation("RationalTanh"),
    "rectified_tanh": activation("RectifiedTanh"),
    "relu": activation("ReLU", max=None, negativeSlope=None, threshold=None),
    "relu_max": activation("ReLU", max=0.8, negativeSlope=None, threshold=None),
    "relu_threshold": activation("ReLU", max=None, negativeSlope=None, threshold=0.4),
    "relu_slope": activation("ReLU", max=None, negativeSlope=0.3, threshold=None),
    "relu_slope_threshold_max": activation("ReLU", max=0.9, negativeSlope=0.3, threshold=0.4),
    "relu6": activation("ReLU6"),
    "rrelu": activation("RReLU", l=0.125, u=0.3333333333333333),
    "selu": activation("SELU"),
    "sigmoid": activation("Sigmoid"),
    "softmax": activation("Softmax"),
    "softplus": activation("SoftPlus"),
    "softsign": activation("SoftSign"),
    "swish": activation("Swish"),
    "tanh": activation("TanH"),
    "thresholded_relu": activation("ThresholdedReLU", theta=0.3),
}


def one(conf: dict[str, Any], *shape: int) -> Network:
    return single(multi_layer(conf), *shape)


DENSE: dict[str, Network] = {
    **{f"activation_{name}": one(plain("ActivationLayer", activationFn=fn), 4, 11) for name, fn in ACTIVATIONS.items()},
    "activation_softmax_3d": one(plain("ActivationLayer", activationFn=activation("Softmax")), 3, 5, 7),
    "activation_softmax_4d": one(plain("ActivationLayer", activationFn=activation("Softmax")), 2, 3, 5, 7),
    "dense_output": single(multi_layer(dense(5, 7), output(7, 3)), 4, 5),
    "dense_without_bias": one(dense(5, 7, hasBias=False), 4, 5),
    "dense_layer_norm": one(dense(5, 7, hasLayerNorm=True), 4, 5),
    "dense_layer_norm_without_bias": one(dense(5, 7, hasLayerNorm=True, hasBias=False), 4, 5),
    "output_without_bias": one(output(5, 7, hasBias=False), 4, 5),
    "dropout": single(
        multi_layer(
            dense(5, 7),
            plain("DropoutLayer", nin=7, nout=7)
            | {"idropout": {"@class": "org.deeplearning4j.nn.conf.dropout.Dropout", "p": 0.5, "pschedule": None}},
            output(7, 3),
        ),
        4,
        5,
    ),
    "loss": single(multi_layer(dense(5, 7), layer("LossLayer", "Softmax", nin=0, nout=0, lossFn=LOSS)), 4, 5),
    "batch_norm_dense": single(multi_layer(dense(5, 7), batch_normalization(7), output(7, 3)), 4, 5),
    "batch_norm_dense_variance": one(batch_normalization(7, useLogStd=False), 4, 7),
    "batch_norm_dense_locked": one(
        batch_normalization(7, lockGammaBeta=True, gamma=1.5, beta=0.25, useLogStd=False), 4, 7
    ),
    # The configured values are not applied: DL4J only applies them if gamma != 1 and beta != 0.
    "batch_norm_dense_locked_gamma_alone": one(
        batch_normalization(7, lockGammaBeta=True, gamma=1.5, useLogStd=False), 4, 7
    ),
    "frozen": single(multi_layer(wrapper("FrozenLayer", dense(5, 7)), output(7, 3)), 4, 5),
    "frozen_with_backprop": single(multi_layer(wrapper("FrozenLayerWithBackprop", dense(5, 7)), output(7, 3)), 4, 5),
    "center_loss_output": one(
        feed(
            "CenterLossOutputLayer",
            5,
            7,
            "Softmax",
            alpha=0.05,
            gradientCheck=False,
            hasBias=True,
            lambda_=0.0002,
            lossFn=LOSS,
        ),
        4,
        5,
    ),
    "auto_encoder": single(
        multi_layer(
            feed(
                "AutoEncoder",
                5,
                7,
                "Sigmoid",
                corruptionLevel=0.3,
                lossFunction="MSE",
                sparsity=0.0,
                visibleBiasInit=0.0,
            ),
            output(7, 3),
        ),
        4,
        5,
    ),
    "element_wise_multiplication": one(feed("ElementWiseMultiplicationLayer", 7, 7), 4, 7),
    "prelu": one(layer("PReLULayer", inputShape=[7], nin=7, nout=7, sharedAxes=None), 4, 7),
    # DL4J saves either form: initializing the parameters replaces shared axes in inputShape by 1.
    "prelu_image_shared": one(layer("PReLULayer", inputShape=[3, 1, 1], nin=0, nout=0, sharedAxes=[2, 3]), 2, 3, 5, 7),
    "prelu_image_shared_unsaved": one(
        layer("PReLULayer", inputShape=[3, 5, 7], nin=0, nout=0, sharedAxes=[2, 3]), 2, 3, 5, 7
    ),
    # Alpha, one per pixel, is in 'f' order.
    "prelu_image": one(layer("PReLULayer", inputShape=[3, 5, 7], nin=0, nout=0, sharedAxes=None), 2, 3, 5, 7),
    "embedding": Network(
        multi_layer(feed("EmbeddingLayer", 11, 5, "Identity", hasBias=False), output(5, 3)),
        {"input": (4, 1)},
        indices={"input": 11},
    ),
    "embedding_bias": Network(
        multi_layer(feed("EmbeddingLayer", 11, 5, "TanH", hasBias=True)), {"input": (4, 1)}, indices={"input": 11}
    ),
}
# "lambda" cannot be a keyword argument.
DENSE["center_loss_output"].configuration["confs"][0]["layer"]["lambda"] = 0.0002
del DENSE["center_loss_output"].configuration["confs"][0]["layer"]["lambda_"]
