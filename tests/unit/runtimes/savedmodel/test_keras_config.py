"""A Keras configuration that names code, or files outside the model, is refused before Keras reads it."""

import json
from typing import Any

import pytest

from runtimes.contract import LoadError
from runtimes.savedmodel.keras_config import parse


def layer(class_name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "module": module, "config": {"name": "here", **config}}


def function(name: str, module: str) -> dict[str, Any]:
    return layer("Dense", activation={"class_name": "function", "module": module, "config": name})


def model(*layers: dict[str, Any]) -> str:
    return json.dumps({"class_name": "Sequential", "module": "keras", "config": {"layers": list(layers)}})


ACCEPTED = [
    layer("Dense", units=3, activation="relu"),
    layer("Dense", None, units=3),  # as in .h5 files
    layer("Functional", "keras.src.models.functional"),
    layer("Functional", "tf_keras.src.engine.functional"),
    layer("Policy", "keras.mixed_precision"),
    layer("StringLookup", vocabulary=["a", "b"]),
    layer("TFOpLambda", None, function="math.multiply"),
    layer("TFOpLambda", None, function="reshape"),
    layer("TFOpLambda", None, function="compat.v1.transpose"),  # what Keras 2 makes of tf.transpose
    layer("TFOpLambda", None, function="compat.v1.nn.conv2d"),
    layer("TFOpLambda", None, function="random.normal"),
    layer("SlicingOpLambda", None, function="__operators__.getitem"),
    function("relu", "builtins"),
    function("relu", "keras.activations"),
    {"class_name": "__tensor__", "config": {"value": [1.0], "dtype": "float32"}},
]

REFUSED = [
    (layer("Lambda", function="…"), "the model contains Lambda in layer 'here', which runs Python code in the file"),
    (layer("keras.layers>Lambda", None), "the model contains Lambda"),
    (layer("Bidirectional", layer={"class_name": "Lambda", "config": {}}), "the model contains Lambda"),
    (layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "…"}}), "__lambda__ in layer 'here'"),
    (layer("TorchModuleWrapper"), "pickled Python objects in the file"),
    (layer("TFSMLayer", filepath="/tmp"), "a SavedModel outside the file"),
    (layer("TensorFlowOpLayer", None), "any operator of TensorFlow"),
    (layer("Mine", "my.package"), "the model needs 'Mine' of module 'my.package' in layer 'here', which is code"),
    (layer("Mine", "keras_hub.layers"), "the model needs 'Mine'"),
    (layer("My>Mine", None), "the model needs 'Mine'"),
    ({**layer("Mine", "keras.layers"), "registered_name": "My>Mine"}, "the model needs 'Mine'"),
    (layer("Popen", "subprocess"), "the model needs 'Popen' of module 'subprocess'"),
    (layer("Dense", "keras.layers.x-y"), "the model needs 'Dense'"),
    (layer("get_file", "keras.utils"), "the model needs 'get_file' of module 'keras.utils'"),
    (layer("Sequence", "keras.src.utils"), "the model needs 'Sequence'"),
    (layer("load_model", "keras.models"), "the model needs 'load_model'"),
    (function("get_file", "keras.utils"), "the model needs 'get_file' of module 'keras.utils'"),
    (function("system", "os"), "the model needs 'system' of module 'os'"),
    (function("load_model", "keras.models"), "the model needs 'load_model'"),
    (layer("StringLookup", vocabulary="/etc/passwd"), "the vocabulary in layer 'here' is the path of a file"),
    (layer("TextVectorization", idf_weights="w.npy", vocabulary=[]), "the idf_weights in layer 'here' is the path"),
    (layer("TFOpLambda", None, function="io.write_file"), "the model calls tf.io.write_file in layer 'here'"),
    (layer("TFOpLambda", None, function="compat.v1.io.write_file"), "the model calls tf.compat.v1.io.write_file"),
    (layer("TFOpLambda", None, function="compat.v1.py_func"), "the model calls tf.compat.v1.py_func"),
    (layer("TFOpLambda", None, function="compat.v1.compat.v1.shape"), "the model calls tf.compat.v1.compat.v1.shape"),
    (layer("TFOpLambda", None, function="random.set_seed"), "the model calls tf.random.set_seed"),
    (layer("TFOpLambda", None, function="nn.fixed_unigram_candidate_sampler"), "tf.nn.fixed_unigram_candidate_sampler"),
    (layer("TFOpLambda", None, function="py_function"), "the model calls tf.py_function"),
    (layer("SlicingOpLambda", None, function="io.read_file"), "the model calls tf.io.read_file"),
    ({"class_name": 3, "config": {}}, "has a class name that is not a string"),
]


@pytest.mark.parametrize("each", ACCEPTED, ids=str)
def test_what_only_computes_is_accepted(each: dict[str, Any]) -> None:
    assert parse(model(each), has_assets=True)["class_name"] == "Sequential"


@pytest.mark.parametrize(("each", "reason"), REFUSED, ids=str)
def test_code_and_files_are_refused(each: dict[str, Any], reason: str) -> None:
    nested = layer("TimeDistributed", layer={"class_name": "Sequential", "module": "keras", "config": [each]})
    for text in (model(each), model(layer("Dense"), nested)):
        with pytest.raises(LoadError) as error:
            parse(text, has_assets=True)
        assert reason in str(error.value)


def test_custom_losses_do_not_matter_unless_keras_reads_them() -> None:
    trained = {"compile_config": {"loss": {"class_name": "Mine", "config": {}, "registered_name": "My>Mine"}}}
    outer = json.dumps({**json.loads(model(layer("Dense"))), **trained})
    assert parse(outer, has_assets=True)
    for text, has_assets in ((outer, False), (model({**layer("Functional", "keras"), **trained}), True)):
        with pytest.raises(LoadError, match="the model needs 'Mine'"):
            parse(text, has_assets=has_assets)


def test_vocabularies_that_only_a_keras_file_holds() -> None:
    text = model(layer("StringLookup", vocabulary=None))
    assert parse(text, has_assets=True)
    with pytest.raises(LoadError, match="the vocabulary of layer 'here' is not in the file"):
        parse(text, has_assets=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "does not describe a model"),
        (model(*[{"a": None}]).replace("null", '{"a":' * 300 + "null" + "}" * 300), "is nested deeper than"),
    ],
    ids=["cut", "deep", "list", "nested"],
)
def test_damaged_configurations(text: str, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        parse(text, has_assets=True)
