"""Models of TensorFlow.js, in model.json and the files that it names: graph models and layers models.

TensorFlow runs them: a graph model as the GraphDef that it was made of, a layers model in tf_keras.
"""

import json
import os
from typing import Any, Dict

from runtimes.checks import known_parameters
from runtimes.contract import LoadError, LoadOptions

from .graph_def import of_graph_def
from .keras_files import failure
from .keras_model import signature_of, trace
from .signatures import LoadedSignature
from .tfjs_graph import ends_of, graph_def
from .tfjs_layers import layers_model
from .tfjs_weights import read_weights

_MAX_JSON = 512 << 20


def load_tfjs(options: LoadOptions) -> LoadedSignature:
    """Return the signature of the model. Raises LoadError."""
    known_parameters(options.parameters, ())
    model = read_model(options.artifact)
    weights = read_weights(os.path.dirname(options.artifact), model.get("weightsManifest", []))
    if is_graph(model):
        ends = ends_of(model)
        return of_graph_def(graph_def(model["modelTopology"], weights), options.threads, ends.inputs, ends.outputs)
    return signature_of(trace_layers(model, weights))


def read_model(path: str) -> Dict[str, Any]:
    """Return model.json. Raises LoadError."""
    try:
        if os.path.getsize(path) > _MAX_JSON:
            raise LoadError("model.json has more than %d MiB" % (_MAX_JSON >> 20))
        with open(path, "rb") as file:
            model = json.loads(file.read().decode())
    except OSError as error:
        raise LoadError("model.json cannot be read: %s" % error.strerror) from None
    except (ValueError, RecursionError) as error:
        raise LoadError("model.json is not JSON (%s): copy it again" % type(error).__name__) from None
    if not isinstance(model, dict) or not isinstance(model.get("modelTopology"), dict):
        raise LoadError("model.json is not a model of TensorFlow.js: it has no modelTopology")
    _check_initializer(model)
    return model


def _check_initializer(model: Dict[str, Any]) -> None:
    """Raise LoadError if another graph has to run first, which fills tables."""
    initializer = model.get("modelInitializer")
    if isinstance(initializer, dict) and initializer.get("node"):
        raise LoadError(
            "the model fills tables when it starts (modelInitializer), which is not supported: serve the SavedModel "
            "that it was converted from"
        )


def is_graph(model: Dict[str, Any]) -> bool:
    return model.get("format") == "graph-model" or "node" in model["modelTopology"]


def trace_layers(model: Dict[str, Any], weights: Any) -> Any:
    """Return the traced model of Keras. Raises LoadError."""
    try:
        return trace(layers_model(model["modelTopology"], weights))
    except (LoadError, MemoryError):
        raise
    except Exception as error:
        raise LoadError(failure(error, "Keras cannot load this layers model of TensorFlow.js")) from error
