"""TensorFlow's SavedModels, written by TensorFlow 1, 2 or Keras, GraphDefs of TensorFlow 1, and files of
Keras and TensorFlow.js.

Of a SavedModel, the graph tagged exactly {serve} is served, or else the one without tags, but never a graph for
training or for a TPU. It is loaded with `tf.saved_model.load`. If that fails (old optimizer slots, unusual graphs of
TensorFlow 1), TensorFlow 1's loader runs the same graph in a session. Clients can request every signature whose inputs
are tensors by name; `serving_default` is the default, or else the first by name. Signatures that call Python functions
are not served at all.
"""

import os
import re
from typing import Any, Dict, Iterable, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from runtimes.checks import declared_inputs, declared_outputs, given_inputs, known_parameters
from runtimes.contract import BatchAnalysis, InputRange, InvalidInput, LoadError, LoadOptions, Model
from runtimes.needs import chosen
from runtimes.redaction import reason_of, redacted

from .assets import PrivateCopy
from .graph_def import load_graph_def
from .loaders import defaults_of, load_functions, load_session
from .signatures import LoadedSignature
from .tags import serving_graph, tags_of

_DEFAULT = "serving_default"
# Decoders raise DataLossError for bytes that they cannot decode.
_INPUT_ERRORS = (tf.errors.InvalidArgumentError, tf.errors.DataLossError, TypeError, ValueError)
# TensorFlow reports these as invalid arguments, but no other input would help: a kernel or a device is missing.
_MODELS_FAULT = re.compile(
    r"No OpKernel was registered|Cannot assign a device|is neither a type of a primitive operation"
)
# These can be caused by the model or by a value in the request, such as the name of a file or a key.
_EITHER_ERRORS = (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.FailedPreconditionError)


def load(options: LoadOptions) -> Model:
    _configure(options)
    private = PrivateCopy(options.artifact)
    options = options._replace(artifact=private.folder)
    found = _load_file(options) if os.path.isfile(options.artifact) else _load_saved_model(options)
    entries = {name: entry for name, entry in found.items() if not entry.problem}
    problems = ["the signature '%s': %s" % (name, entry.problem) for name, entry in found.items() if entry.problem]
    if not entries:
        raise LoadError("this model has no signature that can be served: %s" % ("; ".join(problems) or "none"))
    for problem in problems:
        print("not served: " + problem)
    return SavedModel(entries, options, private)


def _load_file(options: LoadOptions) -> Dict[str, LoadedSignature]:
    if options.artifact.endswith((".keras", ".h5", ".hdf5")):
        from .keras_files import load_keras  # importing Keras takes seconds

        return {_DEFAULT: load_keras(options)}
    if options.artifact.endswith(".json"):
        from .tfjs import load_tfjs

        return {_DEFAULT: load_tfjs(options)}
    known_parameters(options.parameters, ())
    return {_DEFAULT: load_graph_def(options)}


def _load_saved_model(options: LoadOptions) -> Dict[str, LoadedSignature]:
    known_parameters(options.parameters, ())
    try:
        graph = serving_graph(options.artifact)
        tags, defaults = tags_of(graph), defaults_of(graph)
        # What is declared is an input like any other, whether or not it has a default value.
        for name in sorted(defaults, key=_order)[:1]:
            for spec in options.inputs:
                defaults[name].pop(spec.name, None)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError("TensorFlow cannot load this SavedModel: %s" % _client_message(error)) from error
    try:
        return load_functions(options.artifact, tags, defaults)
    except Exception as error:
        print("tf.saved_model.load failed (%s); trying TensorFlow 1's loader" % _client_message(error))
    try:
        return load_session(options, tags, defaults)
    except Exception as error:
        raise LoadError("TensorFlow cannot load this SavedModel: %s" % _client_message(error)) from error


def _order(signature: str) -> Tuple[bool, str]:
    """The key by which signatures are sorted: the default is the first."""
    return signature != _DEFAULT, signature


def _configure(options: LoadOptions) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    cards = tf.config.list_physical_devices("GPU")
    if options.device != "cuda":
        tf.config.set_visible_devices([], "GPU")
    elif not cards:
        raise LoadError("TensorFlow found no usable CUDA device")
    for card in cards:
        tf.config.experimental.set_memory_growth(card, True)  # otherwise TensorFlow reserves all memory of the GPU


class SavedModel(Model):
    def __init__(self, entries: Dict[str, LoadedSignature], options: LoadOptions, private: PrivateCopy) -> None:
        self._copy = private
        names = sorted(entries, key=_order)
        self.entries = {name: entries[name] for name in names}
        self.signatures = {name: entries[name].signature for name in names}
        default = self.signatures[names[0]]
        self.signatures[names[0]] = default._replace(
            inputs=declared_inputs(options.inputs, default.inputs),
            outputs=declared_outputs(options.outputs, default.outputs),
            unbatched=() if options.inputs else default.unbatched,
        )

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        entry, served = self.entries[signature], self.signatures[signature].outputs
        found = entry.analyze()
        part = next((spec.name for spec in served if spec.name in entry.parts), "")
        return found._replace(alone="output '%s' is part of a ragged or sparse tensor" % part) if part else found

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return self.entries[signature].ranges()

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        name = signature or next(iter(self.signatures))
        if name not in self.entries:
            raise InvalidInput("the model has no signature '%s'" % name)
        entry = self.entries[name]
        names, _ = chosen(self.signatures[name], outputs, inputs)
        # TensorFlow's error messages name internals, and its functions accept any shape, so inputs are checked here.
        arrays = given_inputs(entry.signature, inputs)
        try:
            results = entry.run(arrays, names)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(_client_message(error)) from error
        except _INPUT_ERRORS as error:
            if _MODELS_FAULT.search(str(error)):
                raise
            raise InvalidInput(_client_message(error)) from error
        except _EITHER_ERRORS as error:
            if not _quotes_a_value(str(error), arrays.values()):
                raise
            raise InvalidInput(_client_message(error)) from error
        return {output: _array(result) for output, result in results.items()}

    def close(self) -> None:
        self._copy.close()


def _array(result: Any) -> np.ndarray:
    """Convert a result to an array. A string of rank 0 is bytes, from which numpy would drop trailing zeros."""
    return np.array(result, dtype=object) if isinstance(result, bytes) else np.asarray(result)


def _quotes_a_value(message: str, arrays: Iterable[np.ndarray]) -> bool:
    """Whether an error quotes a string of the request, such as the name of a file that does not exist."""
    texts = [text for array in arrays if array.dtype == object for text in array.flat]
    return any(len(text) > 1 and text.decode("utf-8", "replace") in message for text in texts)


def _client_message(error: BaseException) -> str:
    """Return the part of TensorFlow's message that is useful to clients, without node names, traces and paths."""
    text = re.split(r"\[\[\{\{|\[Op:|Original stack trace", str(getattr(error, "message", "") or error))[0]
    lines = [line.strip() for line in text.splitlines() if line.strip() not in ("", "Graph execution error:")]
    if "Detected at node" in text:  # a trace of the graph's construction, after which the reason follows
        lines = lines[-1:]
    line = lines[0] if lines else type(error).__name__
    line = re.sub(r"^\(\d+\) \w+: |\{\{(function_)?node [^}]*\}\}\s*|, node name: \S+$", "", line)
    # The rest of such a line is the host's name.
    line = re.sub(r" in binary running on .*", ", which TensorFlow alone does not have", line)
    return redacted(line) or reason_of(error)
