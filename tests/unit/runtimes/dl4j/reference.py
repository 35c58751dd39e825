"""Deeplearning4j's inference in plain numpy, float64: written from its Java sources as of June 2021 (1.0.0-M1.1).

It reads configurations as beta4 and newer write them. Dropout, weight noise and constraints do nothing at inference.
Surprising details are noted where they are computed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.unit.runtimes.dl4j import (
    reference_convolution,
    reference_dense,
    reference_normalization,
    reference_other,
    reference_pooling,
    reference_recurrent,
    reference_samediff,
    reference_shapes,
)
from tests.unit.runtimes.dl4j.reference_order import topological_order
from tests.unit.runtimes.dl4j.reference_parameters import Array, Configuration, Parameter, count, kind, parameters, take
from tests.unit.runtimes.dl4j.reference_preprocessors import preprocess
from tests.unit.runtimes.dl4j.reference_vertices import vertex

Layer = Callable[[Array, Configuration, dict[str, Array]], Array]

LAYERS: dict[str, Layer] = {
    **dict.fromkeys(("DenseLayer", "OutputLayer", "CenterLossOutputLayer"), reference_dense.dense),
    "RnnOutputLayer": reference_dense.rnn_output,
    **dict.fromkeys(("ActivationLayer", "LossLayer"), reference_dense.only_activation),
    **dict.fromkeys(("CnnLossLayer", "Cnn3DLossLayer", "RnnLossLayer"), reference_dense.over_channels),
    **dict.fromkeys(("DropoutLayer", "MaskLayer"), lambda x, conf, given: x),
    "Yolo2OutputLayer": reference_other.yolo2,
    "VariationalAutoencoder": reference_other.variational_autoencoder,
    "EmbeddingLayer": reference_dense.embedding,
    "EmbeddingSequenceLayer": reference_dense.embedding_sequence,
    "ElementWiseMultiplicationLayer": reference_dense.element_wise,
    "RepeatVector": reference_dense.repeat_vector,
    "PReLULayer": reference_dense.prelu,
    "AutoEncoder": reference_dense.auto_encoder,
    **dict.fromkeys(("ConvolutionLayer", "Convolution2D", "Convolution3D"), reference_convolution.convolution),
    **dict.fromkeys(("Convolution1DLayer", "Convolution1D"), reference_convolution.convolution_1d),
    **dict.fromkeys(("Deconvolution2D", "Deconvolution3D"), reference_convolution.deconvolution),
    "DepthwiseConvolution2D": reference_convolution.depthwise,
    "SeparableConvolution2D": reference_convolution.separable,
    **dict.fromkeys(("SubsamplingLayer", "Pooling2D"), reference_pooling.subsampling),
    **dict.fromkeys(("Subsampling1DLayer", "Pooling1D"), reference_pooling.subsampling_1d),
    "Subsampling3DLayer": reference_pooling.subsampling_3d,
    "GlobalPoolingLayer": reference_pooling.global_pooling,
    **dict.fromkeys(("ZeroPadding1DLayer", "ZeroPaddingLayer", "ZeroPadding3DLayer"), reference_shapes.zero_padding),
    **dict.fromkeys(("Cropping1D", "Cropping2D", "Cropping3D"), reference_shapes.cropping),
    **dict.fromkeys(("Upsampling1D", "Upsampling2D", "Upsampling3D"), reference_shapes.upsampling),
    "SpaceToDepthLayer": reference_shapes.space_to_depth,
    "SpaceToBatchLayer": reference_shapes.space_to_batch,
    "BatchNormalization": reference_normalization.batch_normalization,
    "LocalResponseNormalization": reference_normalization.local_response,
    **dict.fromkeys(("LSTM", "GravesLSTM"), reference_recurrent.lstm),
    "GravesBidirectionalLSTM": reference_recurrent.graves_bidirectional,
    "SimpleRnn": reference_recurrent.simple_rnn,
    "MaskZeroLayer": reference_recurrent.mask_zero,
    "SelfAttentionLayer": reference_samediff.self_attention,
    "LearnedSelfAttentionLayer": reference_samediff.learned_attention,
    "RecurrentAttentionLayer": reference_samediff.recurrent_attention,
    "LocallyConnected1D": reference_samediff.locally_connected_1d,
    "LocallyConnected2D": reference_samediff.locally_connected_2d,
    "Bidirectional": lambda x, conf, given: reference_recurrent.bidirectional(x, conf, given, apply),
    "LastTimeStep": lambda x, conf, given: reference_recurrent.last_time_step(x, conf, given, apply),
    "TimeDistributed": lambda x, conf, given: reference_recurrent.time_distributed(x, conf, given, apply),
    "FrozenLayer": lambda x, conf, given: apply(x, conf["layer"], given),
    "FrozenLayerWithBackprop": lambda x, conf, given: apply(x, conf["underlying"], given),
}


def apply(x: Array, conf: Configuration, given: dict[str, Array]) -> Array:
    """Compute one layer of any kind. given: its parameters by name."""
    if kind(conf) not in LAYERS:
        raise NotImplementedError(conf["@class"])
    return LAYERS[kind(conf)](x, conf, given)


def layout(configuration: Configuration) -> list[tuple[str, list[Parameter]]]:
    """Return (layer's index or vertex's name, its parameters) in the order of coefficients.bin."""
    if "confs" in configuration:
        return [(str(k), layer_parameters(each["layer"])) for k, each in enumerate(configuration["confs"])]
    found = []
    for name in topological_order(configuration):
        if name not in configuration["networkInputs"]:
            found.append((name, vertex_parameters(configuration["vertices"][name])))
    return found


MORE_PARAMETERS: dict[str, Callable[[Configuration], list[Parameter]]] = {
    "VariationalAutoencoder": reference_other.autoencoder_parameters,
    "SelfAttentionLayer": reference_samediff.self_attention_parameters,
    "LearnedSelfAttentionLayer": reference_samediff.learned_parameters,
    "RecurrentAttentionLayer": reference_samediff.recurrent_parameters,
    "LocallyConnected1D": reference_samediff.locally_connected_parameters,
    "LocallyConnected2D": reference_samediff.locally_connected_parameters,
}


def layer_parameters(conf: Configuration) -> list[Parameter]:
    return MORE_PARAMETERS[kind(conf)](conf) if kind(conf) in MORE_PARAMETERS else parameters(conf)


def unfrozen(conf: Configuration) -> Configuration:
    return unfrozen(conf["underlying"]) if kind(conf) == "FrozenVertex" else conf


def vertex_parameters(conf: Configuration) -> list[Parameter]:
    conf = unfrozen(conf)
    if kind(conf) == "AttentionVertex":
        return reference_samediff.vertex_parameters(conf)
    return layer_parameters(conf["layerConf"]["layer"]) if kind(conf) == "LayerVertex" else []


def parameter_count(configuration: Configuration) -> int:
    return sum(count(each) for _, each in layout(configuration))


def split(configuration: Configuration, coefficients: Array) -> dict[str, dict[str, Array]]:
    row, start, found = np.ravel(coefficients).astype(np.float64), 0, {}
    for name, each in layout(configuration):
        found[name] = take(row[start : start + count(each)], each)
        start += count(each)
    assert start == len(row), f"{len(row)} coefficients, {start} parameters"
    return found


def before_m1(configuration: Configuration) -> Configuration:
    """Return the network as beta7 and older compute it: they read the weights of 1-D convolutions differently."""

    def marked(value: Any) -> Any:
        if isinstance(value, list):
            return [marked(each) for each in value]
        if not isinstance(value, dict):
            return value
        mark = {reference_convolution.BEFORE_M1: True} if "Convolution1D" in str(value.get("@class")) else {}
        return {key: marked(each) for key, each in value.items()} | mark

    return dict(marked(configuration))


def forward(configuration: dict[str, Any], coefficients: Array, inputs: list[Array]) -> list[Array]:
    """Return the network's outputs for these inputs, both in the network's order."""
    given = split(configuration, coefficients)
    values = [np.asarray(each, np.float64) for each in inputs]
    if "confs" in configuration:
        (x,) = values
        # MultiLayerNetwork.getInputMiniBatchSize: 1 if miniBatch is off, so preprocessors merge all examples.
        batch = x.shape[0] if configuration["confs"][0].get("miniBatch", True) else 1
        for k, each in enumerate(configuration["confs"]):
            if (before := configuration.get("inputPreProcessors", {}).get(str(k))) is not None:
                x = preprocess(x, before, batch)
            x = apply(x, each["layer"], given[str(k)])
        return [x]
    return graph(configuration, given, values)


def graph(configuration: Configuration, given: dict[str, dict[str, Array]], values: list[Array]) -> list[Array]:
    """ComputationGraph.ffToLayerActivationsDetached; the batch is that of the first input, also after a Stack."""
    named = dict(zip(configuration["networkInputs"], values, strict=True))
    batch = values[0].shape[0]
    for name in topological_order(configuration):
        if name in named:
            continue
        conf = unfrozen(configuration["vertices"][name])
        inputs = [named[each] for each in configuration["vertexInputs"][name]]
        match kind(conf):
            case "LayerVertex":
                x = inputs[0]
                if conf.get("preProcessor") is not None:
                    x = preprocess(x, conf["preProcessor"], batch)
                named[name] = apply(x, conf["layerConf"]["layer"], given[name])
            case "PreprocessorVertex":
                named[name] = preprocess(inputs[0], conf["preProcessor"], batch)
            case "AttentionVertex":
                queries, keys, values_ = inputs
                named[name] = reference_samediff.attention(queries, keys, values_, given[name])
            case "DuplicateToTimeSeriesVertex":
                named[name] = np.repeat(inputs[0][:, :, None], named[conf["inputName"]].shape[2], axis=2)
            case _:
                named[name] = vertex(inputs, conf)
    return [named[name] for name in configuration["networkOutputs"]]
