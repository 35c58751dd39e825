"""Keras models in .keras and .h5 files. Each is read by the Keras whose version wrote it: Keras 3, or tf_keras.

Nothing in a file is executed: `keras_config` refuses a file that names code before Keras reads it.
"""

import os
import re
import sys
from typing import Any

from runtimes.checks import known_parameters, parameter
from runtimes.contract import LoadError, LoadOptions
from runtimes.redaction import redacted

from .keras_1 import has_convolutions, rewritten
from .keras_archive import Description, read_keras_archive, read_keras_h5
from .keras_model import Traced, signature_of, trace
from .signatures import LoadedSignature

_UNKNOWN = re.compile(r"(?:Unknown|Could not locate) \w+:? '([^']+)'|Cannot deserialize object of type `([^`]+)`")
_WHERE = "Exception encountered when calling"


def load_keras(options: LoadOptions) -> LoadedSignature:
    """Return the signature of the model in a file. Raises LoadError."""
    known_parameters(options.parameters, ("keep_state", "backend"))
    keep_state = parameter(options.parameters, "keep_state", (False, True))
    backend = parameter(options.parameters, "backend", ("", "tensorflow", "theano"))
    return signature_of(read_keras(options.artifact, keep_state, backend))


def read_keras(path: str, keep_state: bool = False, backend: str = "") -> Traced:
    """Read and trace a file. Raises LoadError.

    keep_state  see `trace`
    backend     the backend of Keras 1 with which the model was trained, "" if it is not known
    """
    if path.endswith(".keras"):
        with open(path, "rb") as file:
            description = read_keras_archive(file)
    else:
        description = read_keras_h5(path)
    try:
        return trace(_read(path, description, backend), keep_state)
    except (LoadError, MemoryError):
        raise
    except Exception as error:
        what = "Keras cannot load this file, which Keras %s wrote" % (description.version or "of unknown version")
        text = failure(error, what)
        # Keras 3 writes some layers and operations to .h5 files in a form that it does not read.
        again = path.endswith(".keras") or description.major < 3
        raise LoadError(text if again else text + "; save the model as a .keras file") from error


def _read(path: str, description: Description, backend: str) -> Any:
    if description.major >= 3:
        os.environ["KERAS_BACKEND"] = "tensorflow"
        import keras

        return keras.saving.load_model(path, compile=False, safe_mode=True)
    import tf_keras

    from .keras_2_weights import read_weights

    if path.endswith(".keras"):
        return tf_keras.models.load_model(path, compile=False, safe_mode=True)
    config = rewritten(description.config, description.major)
    if description.major < 2 and not backend and has_convolutions(config):
        raise LoadError(
            "this file of Keras 1 does not say whether TensorFlow or Theano trained its convolutions, which Theano "
            'flips: set backend = "tensorflow" or "theano" in [parameters] of model.toml'
        )
    model = tf_keras.models.model_from_config(config)
    read_weights(path, model, backend)
    return model


def failure(error: Exception, what: str) -> str:
    """Return a sentence for an exception of Keras. what: the sentence's beginning."""
    text = str(error)
    unknown = _UNKNOWN.search(text)
    name = (unknown[1] or unknown[2]) if unknown else ""
    if unknown and not _is_operation(name):
        return (
            "the model needs '%.60s', which is code outside of Keras and not in the file: build the model from Keras' "
            "own layers, or serve it as a SavedModel" % name.split(">")[-1]
        )
    # Keras 3 first says where it failed, and then why, in bold.
    lines = [line.strip() for line in re.sub(r"\x1b\[\d*m", "", text).splitlines()]
    line = next((line for line in lines if line and not line.startswith(_WHERE)), type(error).__name__)
    shown = re.split(r" using config=|\. Please ensure", redacted(line))[0]
    return "%s: %s" % (what, shown[:300].rstrip(".:"))


def _is_operation(name: str) -> bool:
    """Whether Keras 3 has an operation of this name, such as that which Embedding(mask_zero=True) adds to a model."""
    return hasattr(sys.modules.get("keras.src.ops"), name)
