"""Makes a model of tf_keras of a layers model of TensorFlow.js: a Keras configuration, and weights by name."""

import re
from typing import Any, Dict, List, Mapping

import numpy as np

from runtimes.contract import LoadError

from .keras_config import check

_MODELS = ("Sequential", "Functional", "Model")


def layers_model(topology: Any, weights: Mapping[str, np.ndarray]) -> Any:
    """Return the model. Raises LoadError, and anything that Keras raises for a configuration that it cannot read."""
    config = topology.get("model_config", topology) if isinstance(topology, dict) else None
    if not isinstance(config, dict) or config.get("class_name") not in _MODELS:
        raise LoadError("model.json describes no model: save it with model.save of TensorFlow.js, or convert it again")
    check(config)
    import tf_keras

    _check_layers(config)
    model = tf_keras.models.model_from_config(config)
    _set_weights(model, weights)
    return model


def _check_layers(config: Dict[str, Any]) -> None:
    """Raise LoadError if a layer is not one of Keras. tf_keras itself does not always notice."""
    import tf_keras

    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner  # those of old Sequential models
    for layer in layers if isinstance(layers, list) else []:
        name = layer.get("class_name") if isinstance(layer, dict) else None
        if name in _MODELS:
            _check_layers(layer)
        elif not hasattr(tf_keras.layers, str(name)):
            raise LoadError(
                "the model needs the layer '%.60s', which is code outside of Keras and not in the file: build the "
                "model from the layers of Keras" % name
            )


def _set_weights(model: Any, weights: Mapping[str, np.ndarray]) -> None:
    by_short: Dict[str, List[str]] = {}
    for name in weights:
        by_short.setdefault(_short(name), []).append(name)
    values, used = [], set()
    for variable in model.weights:
        name = re.sub(r":0$", "", variable.name)
        candidates = [name] if name in weights else by_short.get(_short(name), [])
        if len(candidates) != 1:
            raise LoadError("the weight '%.60s' of the model is not in the manifest: save the model again" % name)
        value = weights[candidates[0]]
        if tuple(value.shape) != tuple(variable.shape):
            raise LoadError(
                "the weight '%.60s' has the shape %s in the manifest, but %s in the model"
                % (name, list(value.shape), list(variable.shape))
            )
        values.append(value)
        used.add(candidates[0])
    if len(used) != len(values):
        raise LoadError("two weights of the model have the same name in the manifest: give each layer its own name")
    model.set_weights(values)


def _short(name: str) -> str:
    """Return a weight's name without its cell, such as "lstm_cell", which not every version of Keras writes."""
    *scope, last = name.split("/")
    return "/".join([*scope[:-1], last] if len(scope) > 1 else [*scope, last])
