"""The parts of configuration.json, with all fields that Jackson writes (1.0.0-M1)."""

from collections.abc import Sequence
from typing import Any

Configuration = dict[str, Any]

LAYERS = "org.deeplearning4j.nn.conf.layers."
PACKAGES = {
    **dict.fromkeys(("Cropping1D", "Cropping2D", "Cropping3D"), "convolutional."),
    **dict.fromkeys(
        ("ElementWiseMultiplicationLayer", "FrozenLayer", "FrozenLayerWithBackprop", "RepeatVector"), "misc."
    ),
    **dict.fromkeys(("Bidirectional", "LastTimeStep", "SimpleRnn", "TimeDistributed"), "recurrent."),
    **dict.fromkeys(("MaskLayer", "MaskZeroLayer"), "util."),
    "VariationalAutoencoder": "variational.",
    "Yolo2OutputLayer": "objdetect.",
}
# Fields that only training reads. Layers without parameters have fewer of them.
NO_TRAINING = {
    "constraints": None,
    "gradientNormalization": "None",
    "gradientNormalizationThreshold": 0.0,
    "idropout": None,
}
TRAINING: Configuration = {
    **NO_TRAINING,
    "gradientNormalizationThreshold": 1.0,
    "biasInit": 0.0,
    "biasUpdater": None,
    "gainInit": 1.0,
    "iupdater": {"@class": "org.nd4j.linalg.learning.config.Sgd", "learningRate": 0.1},
    "regularization": [],
    "regularizationBias": [],
    "weightInitFn": {"@class": "org.deeplearning4j.nn.weights.WeightInitXavier"},
    "weightNoise": None,
}
LOSS = {"@class": "org.nd4j.linalg.lossfunctions.impl.LossMCXENT", "softmaxClipEps": 1e-10}


def activation(name: str, **fields: Any) -> Configuration:
    """activation("LReLU", alpha=0.2)"""
    return {"@class": f"org.nd4j.linalg.activations.impl.Activation{name}", **fields}


def plain(name: str, **fields: Any) -> Configuration:
    """A layer without parameters."""
    return {"@class": f"{LAYERS}{PACKAGES.get(name, '')}{name}", **NO_TRAINING, "layerName": None, **fields}


def layer(name: str, act: str | Configuration = "Identity", **fields: Any) -> Configuration:
    """A layer with an activation and, usually, parameters."""
    function = activation(act) if isinstance(act, str) else act
    return {
        "@class": f"{LAYERS}{PACKAGES.get(name, '')}{name}",
        **TRAINING,
        "activationFn": function,
        "layerName": None,
        **fields,
    }


def feed(name: str, n_in: int, n_out: int, act: str | Configuration = "TanH", **fields: Any) -> Configuration:
    """A FeedForwardLayer."""
    return layer(name, act, **{"nin": n_in, "nout": n_out, "timeDistributedFormat": None, **fields})


def dense(n_in: int, n_out: int, act: str | Configuration = "TanH", **fields: Any) -> Configuration:
    return feed("DenseLayer", n_in, n_out, act, **{"hasBias": True, "hasLayerNorm": False, **fields})


def output(n_in: int, n_out: int, act: str | Configuration = "Softmax", **fields: Any) -> Configuration:
    return feed("OutputLayer", n_in, n_out, act, **{"hasBias": True, "lossFn": LOSS, **fields})


def convolution(
    n_in: int, n_out: int, kernel: Sequence[int], act: str | Configuration = "TanH", name: str = "", **fields: Any
) -> Configuration:
    """2-D: any ConvolutionLayer. 1-D: the lists' second numbers are 1, 1, 0, 1. 3-D has no other fields."""
    rank = len(kernel)
    image = {} if rank == 3 else {"cnn2dDataFormat": "NCHW"}
    values = {
        **image,
        "convolutionMode": "Truncate",
        "cudnnAlgoMode": "PREFER_FASTEST",
        "cudnnAllowFallback": True,
        "cudnnBwdDataAlgo": None,
        "cudnnBwdFilterAlgo": None,
        "cudnnFwdAlgo": None,
        "dilation": [1] * rank,
        "hasBias": True,
        "kernelSize": list(kernel),
        "padding": [0] * rank,
        "stride": [1] * rank,
    }
    return feed(name or "ConvolutionLayer", n_in, n_out, act, **{**values, **fields})


def pooling(type_: str, kernel: Sequence[int], stride: Sequence[int], name: str = "", **fields: Any) -> Configuration:
    rank = len(kernel)
    image = (
        {} if rank == 3 else {"avgPoolIncludePadInDivisor": False, "cnn2dDataFormat": "NCHW", "eps": 1e-8, "pnorm": 0}
    )
    values = {
        **image,
        "convolutionMode": "Truncate",
        "cudnnAllowFallback": True,
        "dilation": [1] * rank,
        "kernelSize": list(kernel),
        "padding": [0] * rank,
        "poolingType": type_,
        "stride": list(stride),
    }
    return plain(name or "SubsamplingLayer", **{**values, **fields})


def recurrent(name: str, n_in: int, n_out: int, act: str = "TanH", **fields: Any) -> Configuration:
    """LSTM, GravesLSTM, GravesBidirectionalLSTM, SimpleRnn. M1 writes a null format if none was chosen."""
    gates = (
        {}
        if name == "SimpleRnn"
        else {"forgetGateBiasInit": 1.0, "gateActivationFn": activation("Sigmoid"), "helperAllowFallback": True}
    )
    values = {**gates, "rnnDataFormat": "NCW", "weightInitFnRecurrent": None}
    if name == "SimpleRnn":
        values["hasLayerNorm"] = False
    return feed(name, n_in, n_out, act, **{**values, **fields})


def batch_normalization(n: int, **fields: Any) -> Configuration:
    values = {
        "beta": 0.0,
        "cnn2DFormat": "NCHW",
        "cudnnAllowFallback": True,
        "decay": 0.9,
        "eps": 1e-5,
        "gamma": 1.0,
        "lockGammaBeta": False,
        "minibatch": True,
        "useLogStd": True,
    }
    return feed("BatchNormalization", n, n, "Sigmoid", **{**values, **fields})


def bidirectional(mode: str, wrapped: Configuration) -> Configuration:
    return plain("Bidirectional", fwd=wrapped, bwd=wrapped, mode=mode)


def wrapper(name: str, underlying: Configuration, **fields: Any) -> Configuration:
    return plain(name, **{"layer" if name == "FrozenLayer" else "underlying": underlying}, **fields)


def preprocessor(name: str, **fields: Any) -> Configuration:
    """preprocessor("RnnToFeedForward", rnnDataFormat="NCW")"""
    return {"@class": f"org.deeplearning4j.nn.conf.preprocessor.{name}PreProcessor", **fields}


def _conf(conf: Configuration) -> Configuration:
    """NeuralNetConfiguration"""
    return {
        "cacheMode": "NONE",
        "dataType": "FLOAT",
        "epochCount": 0,
        "iterationCount": 0,
        "layer": conf,
        "maxNumLineSearchIterations": 5,
        "miniBatch": True,
        "minimize": True,
        "optimizationAlgo": "STOCHASTIC_GRADIENT_DESCENT",
        "seed": 12345,
        "stepFunction": None,
        "variables": [],
    }


_NETWORK = {
    "backpropType": "Standard",
    "cacheMode": "NONE",
    "dataType": "FLOAT",
    "epochCount": 0,
    "inferenceWorkspaceMode": "ENABLED",
    "iterationCount": 0,
    "tbpttBackLength": 20,
    "tbpttFwdLength": 20,
    "trainingWorkspaceMode": "ENABLED",
    "validateOutputLayerConfig": True,
}


def multi_layer(*layers: Configuration, before: dict[int, Configuration] | None = None) -> Configuration:
    """before: a layer's index → its input preprocessor"""
    named = [{**each, "layerName": f"layer{k}"} for k, each in enumerate(layers)]
    return {
        **_NETWORK,
        "confs": [_conf(each) for each in named],
        "inputPreProcessors": {str(k): each for k, each in (before or {}).items()},
    }


def vertex(name: str, **fields: Any) -> Configuration:
    """vertex("Merge", mergeAxis=1)"""
    package = "rnn." if name in ("DuplicateToTimeSeries", "LastTimeStep", "ReverseTimeSeries") else ""
    return {"@class": f"org.deeplearning4j.nn.conf.graph.{package}{name}Vertex", **fields}


def layer_vertex(conf: Configuration, before: Configuration | None = None) -> Configuration:
    return vertex("Layer", layerConf=_conf(conf), outputVertex=False, preProcessor=before)


def graph(
    inputs: Sequence[str],
    vertices: dict[str, tuple[Configuration, Sequence[str]]],
    outputs: Sequence[str],
    order: Sequence[str] | None = None,
) -> Configuration:
    """vertices: name → (a vertex or a layer, its inputs). order: the saved topological order, none before beta4."""
    made = {}
    for name, (conf, _) in vertices.items():
        is_layer = ".conf.layers." in conf["@class"]
        made[name] = layer_vertex({**conf, "layerName": name}) if is_layer else conf
    names = [*inputs, *vertices]
    return {
        **_NETWORK,
        "defaultConfiguration": _conf({}) | {"layer": None},
        "networkInputTypes": None,
        "networkInputs": list(inputs),
        "networkOutputs": list(outputs),
        "topologicalOrder": None if order is None else [names.index(name) for name in order],
        "topologicalOrderStr": None if order is None else list(order),
        "vertexInputs": {name: list(given) for name, (_, given) in vertices.items()},
        "vertices": made,
    }
