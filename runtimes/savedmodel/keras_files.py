"""Keras models in .keras and .h5 files. Each is read by the Keras whose version wrote it: Keras 3, or tf_keras.

Nothing in a file is executed: `keras_config` refuses a file that names code before Keras reads it.
"""

import os
import re
from typing import Any

from runtimes.checks import known_parameters, parameter
from runtimes.contract import LoadError, LoadOptions
from runtimes.redaction import redacted

from .keras_archive import read_keras_archive, read_keras_h5
from .keras_model import Traced, signature_of, trace
from .signatures import LoadedSignature

_UNKNOWN = re.compile(r"(?:Unknown|Could not locate) \w+:? '([^']+)'|Cannot deserialize object of type `([^`]+)`")


def load_keras(options: LoadOptions) -> LoadedSignature:
    """Return the signature of the model in a file. Raises LoadError."""
    known_parameters(options.parameters, ("keep_state",))
    traced = read_keras(options.artifact, parameter(options.parameters, "keep_state", (False, True)))
    return signature_of(traced)


def read_keras(path: str, keep_state: bool = False) -> Traced:
    """Read and trace a file. keep_state: see `trace`. Raises LoadError."""
    if path.endswith(".keras"):
        with open(path, "rb") as file:
            description = read_keras_archive(file)
    else:
        description = read_keras_h5(path)
    try:
        return trace(_read_3(path) if description.major >= 3 else _read_2(path), keep_state)
    except (LoadError, MemoryError):
        raise
    except Exception as error:
        what = "Keras cannot load this file, which Keras %s wrote" % (description.version or "of unknown version")
        raise LoadError(failure(error, what)) from error


def _read_3(path: str) -> Any:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    return keras.saving.load_model(path, compile=False, safe_mode=True)


def _read_2(path: str) -> Any:
    import tf_keras

    return tf_keras.models.load_model(path, compile=False, safe_mode=True)


def failure(error: Exception, what: str) -> str:
    """Return a sentence for an exception of Keras. what: the sentence's beginning."""
    text = str(error)
    unknown = _UNKNOWN.search(text)
    if unknown:
        return (
            "the model needs '%.60s', which is code outside of Keras and not in the file: build the model from Keras' "
            "own layers, or serve it as a SavedModel" % (unknown[1] or unknown[2]).split(">")[-1]
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "%s: %s" % (what, redacted(lines[0])[:300] if lines else type(error).__name__)
