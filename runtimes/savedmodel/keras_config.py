"""Checks the configuration of a Keras model before Keras reads it: it must not name code, or files outside the model.

A configuration is JSON in which {"class_name": …, "config": …} stands for an object. Keras' own safe mode covers only
some of what such an object can do, and less in .h5 files than in .keras files; it stays on as well.
"""

import json
import re
from typing import Any, Dict, Iterator, Tuple

from runtimes.contract import LoadError

MAX_CONFIG = 64 << 20
_MAX_DEPTH = 200
# How a model was trained: losses, metrics and optimizers, which are often custom. Keras drops it from .keras files that
# are loaded with compile=False, but not from inner models, nor from .h5 files.
_TRAINING = "compile_config"
_PLAIN = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")
_CODE = {
    "Lambda": "Python code in the file",
    "__lambda__": "Python code in the file",
    "TorchModuleWrapper": "pickled Python objects in the file",
    "TFSMLayer": "a SavedModel outside the file",
    "JaxLayer": "a JAX function that is not in the file",
    "FlaxLayer": "a Flax module that is not in the file",
    "TensorFlowOpLayer": "any operator of TensorFlow, including those that read and write files",
    "ClassMethod": "any method of TensorFlow's classes",
    "InstanceMethod": "any method of a tensor",
    "__typespec__": "a class that is not a layer",
}
# Parts of Keras that only contain what a model is made of; others load files, for example keras.utils.
_MODULES = (
    "activations", "constraints", "dtype_policies", "engine", "initializers", "layers", "losses", "metrics",
    "mixed_precision", "models", "ops", "optimizers", "quantizers", "random", "regularizers",
)  # fmt: skip
_FUNCTION_MODULES = ("activations", "constraints", "initializers", "losses", "metrics", "ops", "regularizers")
# What Keras 2 made of a call such as `tf.reshape(x, …)` names a function of TensorFlow's API.
_CALLS = ("TFOpLambda", "SlicingOpLambda")
_TF_MODULES = ("__operators__", "bitwise", "image", "linalg", "math", "nn", "sets", "signal", "sparse", "strings")
_TF_FUNCTIONS = frozenset(
    "abs acos acosh add add_n argmax argmin argsort asin asinh atan atan2 atanh batch_to_space batch_to_space_nd "
    "bitcast boolean_mask broadcast_dynamic_shape broadcast_static_shape broadcast_to cast clip_by_global_norm "
    "clip_by_norm clip_by_value concat convert_to_tensor cos cosh cumsum divide dtypes.complex dynamic_partition "
    "dynamic_stitch einsum ensure_shape equal exp expand_dims eye fill floor floor_div gather gather_nd greater "
    "greater_equal identity less less_equal linspace logical_and logical_not logical_or matmul maximum meshgrid "
    "minimum multiply negative norm not_equal one_hot ones ones_like pad pow random.normal random.truncated_normal "
    "random.uniform range rank realdiv reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min "
    "reduce_prod reduce_sum repeat reshape reverse reverse_sequence roll round saturate_cast scatter_nd searchsorted "
    "sequence_mask shape sigmoid sign sin sinh size slice sort space_to_batch space_to_batch_nd split sqrt square "
    "squeeze stack stop_gradient strided_slice subtract tan tanh tensor_scatter_nd_add tensor_scatter_nd_max "
    "tensor_scatter_nd_min tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile transpose truediv unique "
    "unravel_index unstack where zeros zeros_like".split()
)
_TF_FILES = ("nn.fixed_unigram_candidate_sampler",)  # of the modules above, what reads a file
# Many functions of TensorFlow 2, such as `tf.transpose`, are recorded as those of TensorFlow 1 that they call.
_TF_1 = "compat.v1."
_LOOKUPS = ("StringLookup", "IntegerLookup", "TextVectorization")
_FILES = ("vocabulary", "idf_weights")  # lists, or the path of a file


def parse(text: str, has_assets: bool) -> Dict[str, Any]:
    """Return a configuration that is safe to load. Raises LoadError.

    has_assets: whether it is that of a .keras file, which can hold vocabularies outside of the configuration.
    """
    if len(text) > MAX_CONFIG:
        raise LoadError("the model's configuration has more than %d MiB" % (MAX_CONFIG >> 20))
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LoadError(
            "the model's configuration is not JSON (%s): save the model again" % type(error).__name__
        ) from None
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise LoadError("the model's configuration does not describe a model: save the whole model with model.save")
    read = {key: value for key, value in config.items() if key != _TRAINING} if has_assets else config
    check(read, has_assets)
    return config


def check(config: Any, has_assets: bool = False) -> None:
    """Raise LoadError if the configuration names code or a file, or lacks a vocabulary."""
    for each, layer in _objects(config, "", 0):
        _check_object(each, layer)
        inner = each.get("config")
        if (
            each["class_name"] in _LOOKUPS
            and not has_assets
            and isinstance(inner, dict)
            and not inner.get("vocabulary")
        ):
            raise LoadError(
                "the vocabulary of layer '%.60s' is not in the file: save the model as a .keras file, or create the "
                "layer with its vocabulary" % layer
            )


def _objects(value: Any, layer: str, depth: int) -> Iterator[Tuple[Dict[str, Any], str]]:
    """Yield all objects in a configuration, each with the name of the innermost layer that contains it."""
    if depth > _MAX_DEPTH:
        raise LoadError("the model's configuration is nested deeper than %d" % _MAX_DEPTH)
    if isinstance(value, dict):
        inner = value.get("config")
        if "class_name" in value:
            name = inner.get("name") if isinstance(inner, dict) else None
            layer = str(name or layer)
            yield value, layer
        for each in value.values():
            yield from _objects(each, layer, depth + 1)
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, (dict, list)):
                yield from _objects(each, layer, depth + 1)


def _check_object(each: Dict[str, Any], layer: str) -> None:
    name, module = each["class_name"], each.get("module")
    where = " in layer '%.60s'" % layer if layer else ""
    if not isinstance(name, str):
        raise LoadError("the model's configuration has a class name that is not a string%s" % where)
    kind = re.split("[>.]", name)[-1]
    if kind in _CODE:
        raise LoadError(
            "the model contains %s%s, which runs %s; that is never executed: build the model from Keras' own layers, "
            "or serve it as a SavedModel (model.export)" % (kind, where, _CODE[kind])
        )
    if name in _PLAIN:
        return
    config = each.get("config")
    registered = str(each.get("registered_name") or "")
    custom = next((text for text in (name, registered) if ">" in text), "")
    if name == "function":
        known = module in (None, "builtins") or _part(module) in _FUNCTION_MODULES
        custom = custom or ("" if known else str(config))
    elif not kind[:1].isupper() or not (module in (None, "keras") or _part(module) in _MODULES):
        custom = custom or name
    if custom:
        source = " of module '%.60s'" % module if isinstance(module, str) else ""
        raise LoadError(
            "the model needs '%.60s'%s%s, which is code outside of Keras and not in the file: build the model from "
            "Keras' own layers, or serve it as a SavedModel (model.export)" % (custom.split(">")[-1], source, where)
        )
    if kind in _CALLS:
        _check_function(config.get("function") if isinstance(config, dict) else None, where)
    for key in _FILES:
        if isinstance(config, dict) and isinstance(config.get(key), str):
            raise LoadError(
                "the %s%s is the path of a file outside the model: create the layer with the words themselves, or "
                "with adapt()" % (key, where)
            )


def _part(module: Any) -> str:
    """Return the part of Keras that a module belongs to, such as "layers"; "" if it is not a part of Keras."""
    match = re.fullmatch(r"(?:tf_)?keras\.(?:src\.)?(\w+)(\.\w+)*", module) if isinstance(module, str) else None
    return match[1] if match else ""


def _check_function(function: Any, where: str) -> None:
    name = str(function)
    name = name[len(_TF_1) :] if name.startswith(_TF_1) else name
    top, dot, _ = name.partition(".")
    if name in _TF_FILES or not (name in _TF_FUNCTIONS or (dot and top in _TF_MODULES)):
        raise LoadError(
            "the model calls tf.%.60s%s, which is not among the functions that only compute with tensors: serve the "
            "model as a SavedModel" % (function, where)
        )
