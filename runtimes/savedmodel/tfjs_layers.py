"""Makes a model of tf_keras of a layers model of TensorFlow.js: a Keras configuration, and weights by name."""

import re
from typing import Any, Dict, List, Mapping

import numpy as np

from runtimes.contract import LoadError

from .keras_config import check


def layers_model(topology: Any, weights: Mapping[str, np.ndarray]) -> Any:
    """Return the model. Raises LoadError, and anything that Keras raises for a configuration that it cannot read."""
    config = topology.get("model_config", topology) if isinstance(topology, dict) else None
    if not isinstance(config, dict) or config.get("class_name") not in ("Sequential", "Functional", "Model"):
        raise LoadError("model.json describes no model: save it with model.save of TensorFlow.js, or convert it again")
    check(config)
    import tf_keras

    model = tf_keras.models.model_from_config(config)
    _set_weights(model, weights)
    return model


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
