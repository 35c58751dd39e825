"""Files before 1.0.0-beta3 have a tag around each object, and those before 0.8 name functions by a single word."""

from typing import Any

import pytest

from runtimes.dl4j.archive import Archive
from runtimes.dl4j.translate import translate_archive
from tests.unit.runtimes.dl4j.networks import NETWORKS

# LegacyJsonFormat's tags of DL4J, as far as the networks below need them.
TAGS = {
    "DenseLayer": "dense",
    "OutputLayer": "output",
    "RnnOutputLayer": "rnnoutput",
    "ConvolutionLayer": "convolution",
    "SubsamplingLayer": "subsampling",
    "BatchNormalization": "batchNormalization",
    "LocalResponseNormalization": "localResponseNormalization",
    "EmbeddingLayer": "embedding",
    "ActivationLayer": "activation",
    "GravesLSTM": "gravesLSTM",
    "GravesBidirectionalLSTM": "gravesBidirectionalLSTM",
    "GlobalPoolingLayer": "GlobalPooling",
    "ZeroPaddingLayer": "zeroPadding",
    "AutoEncoder": "autoEncoder",
    "CnnToFeedForwardPreProcessor": "cnnToFeedForward",
    "FeedForwardToRnnPreProcessor": "feedForwardToRnn",
    "RnnToFeedForwardPreProcessor": "rnnToFeedForward",
    "ActivationTanH": "TanH",
    "ActivationReLU": "ReLU",
    "ActivationSigmoid": "Sigmoid",
    "ActivationSoftmax": "Softmax",
    "ActivationIdentity": "Identity",
    "ActivationLReLU": "LReLU",
    "ActivationHardTanH": "HardTanh",
    "ActivationSwish": "SWISH",
}
NAMES = [
    *("dense_output", "convolution_to_output", "graves_lstm", "graves_bidirectional", "batch_norm_image", "embedding"),
    *("activation_swish", "local_response", "auto_encoder", "zero_padding_2d"),
    *("rnn_to_ff_to_rnn", "graph_image_and_row", "merge_rows"),
]


def tagged(value: Any, words: bool) -> Any:
    """Return the value with the tags of those files. words: whether activations are one word, as before 0.8."""
    if isinstance(value, list):
        return [tagged(each, words) for each in value]
    if not isinstance(value, dict):
        return value
    fields = {}
    for name, each in value.items():
        function = each.get("@class", "").rsplit(".Activation", 1)[-1] if isinstance(each, dict) else ""
        if words and name == "activationFn" and function and set(each) == {"@class"}:
            fields["activationFunction"] = function.lower()
        elif name != "@class":
            fields[name] = tagged(each, words)
    kind = str(value.get("@class", "")).rsplit(".", 1)[-1]
    if kind.endswith("Vertex") or kind in TAGS:
        return {TAGS.get(kind, kind): fields}
    return {**fields, "@class": value["@class"]} if kind else fields


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_old_files_say_the_same(name: str, words: bool) -> None:
    made = NETWORKS[name]
    kept = {"topologicalOrder", "topologicalOrderStr"}  # of beta4 on
    old = {key: tagged(value, words) for key, value in made.configuration.items() if key not in kept | {"@class"}}
    names = made.configuration.get("networkInputs", ["in"])
    shapes = {name: (-1, *shape[1:]) for name, shape in zip(names, made.inputs.values(), strict=True)}
    models = [
        translate_archive(Archive(configuration, made.coefficients(), b""), shapes)
        for configuration in (made.configuration, old)
    ]
    assert models[0].graph.node == models[1].graph.node
    assert models[0].graph.initializer == models[1].graph.initializer


def test_a_slope_beside_the_layer() -> None:
    """Before 0.8, the slope of "leakyrelu" was stored next to the layer, not in it."""
    made = NETWORKS["dense_output"]
    old = tagged(made.configuration, True)
    for conf in old["confs"]:
        conf["leakyreluAlpha"] = 0.3
        conf["layer"] = {tag: {**fields, "activationFunction": "leakyrelu"} for tag, fields in conf["layer"].items()}
    nodes = translate_archive(Archive(old, made.coefficients(), b""), {}).graph.node
    slopes = [node.attribute[0].f for node in nodes if node.op_type == "LeakyRelu"]
    assert slopes == pytest.approx([0.3] * len(old["confs"]))
