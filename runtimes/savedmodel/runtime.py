"""TensorFlow SavedModels, written by TensorFlow 1, 2 or Keras.

Of the graphs in the file, the one tagged exactly {serve} is served, else the one without tags; never one for training
or for a TPU. `tf.saved_model.load` goes first. Where it fails (old optimizer slots, TensorFlow 1's odder graphs) the
loader of TensorFlow 1 runs the same graph in a session. Every signature whose inputs are tensors can be asked for by
name; `serving_default` is the default, else the first by name. Ragged and sparse outputs are refused, and so are whole
signatures that call Python functions.
"""

import re
from typing import Any, Dict, Iterable, Optional, Sequence

import numpy as np
import tensorflow as tf

from runtimes.checks import check_input, declared_inputs, declared_outputs, known_parameters, wanted_outputs
from runtimes.contract import BatchAnalysis, InputRange, InvalidInput, LoadError, LoadOptions, Model, Signature
from runtimes.redaction import redacted

from .assets import Private
from .loaders import Entry, load_functions, load_session
from .tags import serving_tags

_DEFAULT = "serving_default"
# DataLossError is what decoders say of bytes that they cannot decode.
_INPUT_ERRORS = (tf.errors.InvalidArgumentError, tf.errors.DataLossError, TypeError, ValueError)
# What no inputs can mend, though TensorFlow calls it an invalid argument: a kernel or a device that is not there.
_MODELS_FAULT = re.compile(
    r"No OpKernel was registered|Cannot assign a device|is neither a type of a primitive operation"
)
# Of what the model holds, or of what a request named: a file, a key, a length.
_EITHER_ERRORS = (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.FailedPreconditionError)


def load(options: LoadOptions) -> Model:
    known_parameters(options.parameters, ())
    _configure(options)
    private = Private(options.artifact)
    options = options._replace(artifact=private.folder)
    try:
        tags = serving_tags(options.artifact)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError("TensorFlow cannot load this SavedModel: %s" % _sentence(error)) from error
    try:
        found = load_functions(options.artifact, tags)
    except Exception as error:
        print("tf.saved_model.load failed (%s); trying TensorFlow 1's loader" % _sentence(error))
        try:
            found = load_session(options, tags)
        except Exception as second:
            raise LoadError("TensorFlow cannot load this SavedModel: %s" % _sentence(second)) from second
    entries = {name: entry for name, entry in found.items() if not entry.problem}
    problems = ["the signature '%s': %s" % (name, entry.problem) for name, entry in found.items() if entry.problem]
    if not entries:
        raise LoadError("this SavedModel has no signature that can be served: %s" % ("; ".join(problems) or "none"))
    for problem in problems:
        print("left out: " + problem)
    return SavedModel(entries, options, private)


def _configure(options: LoadOptions) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    cards = tf.config.list_physical_devices("GPU")
    if options.device != "cuda":
        tf.config.set_visible_devices([], "GPU")
    elif not cards:
        raise LoadError("TensorFlow found no usable CUDA device")
    for card in cards:
        tf.config.experimental.set_memory_growth(card, True)  # else it takes the whole card


class SavedModel(Model):
    def __init__(self, entries: Dict[str, Entry], options: LoadOptions, private: Private) -> None:
        self._private = private
        names = sorted(entries, key=lambda name: (name != _DEFAULT, name))
        self._entries = {name: entries[name] for name in names}
        self.signatures = {name: entries[name].signature for name in names}
        default = self.signatures[names[0]]
        self.signatures[names[0]] = Signature(
            declared_inputs(options.inputs, default.inputs),
            declared_outputs(options.outputs, default.outputs),
            default.refused,
        )

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        return self._entries[signature].analyze()

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return self._entries[signature].ranges()

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        name = signature or next(iter(self.signatures))
        if name not in self._entries:
            raise InvalidInput("the model has no signature '%s'" % name)
        entry, told = self._entries[name], self.signatures[name]
        wanted = wanted_outputs(outputs, [spec.name for spec in told.outputs])
        # TensorFlow's own words for what does not fit name internals, and its functions let any shape through.
        arrays = {spec.name: check_input(spec, inputs) for spec in entry.signature.inputs}
        try:
            results = entry.run(arrays, wanted)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(_sentence(error)) from error
        except _INPUT_ERRORS as error:
            if _MODELS_FAULT.search(str(error)):
                raise
            raise InvalidInput(_sentence(error)) from error
        except _EITHER_ERRORS as error:
            if not _names_a_value(str(error), arrays.values()):
                raise
            raise InvalidInput(_sentence(error)) from error
        return {output: _array(result) for output, result in results.items()}

    def close(self) -> None:
        self._private.close()


def _array(result: Any) -> np.ndarray:
    """A string of rank 0 comes as bytes, of which numpy would drop zeros at the end."""
    return np.array(result, dtype=object) if isinstance(result, bytes) else np.asarray(result)


def _names_a_value(said: str, arrays: Iterable[np.ndarray]) -> bool:
    """Whether an error is about a text of the request's: a file of that name is not there, say."""
    texts = [text for array in arrays if array.dtype == object for text in array.flat]
    return any(len(text) > 1 and text.decode("utf-8", "replace") in said for text in texts)


def _sentence(error: BaseException) -> str:
    """What of TensorFlow's message a client can use: no node names, traces or paths."""
    text = re.split(r"\[\[\{\{|\[Op:|Original stack trace", str(getattr(error, "message", "") or error))[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "Detected at node" in text:  # a trace of the graph's making; the reason is what follows it
        lines = lines[-1:]
    line = lines[0] if lines else type(error).__name__
    line = re.sub(r"^\(\d+\) \w+: |\{\{(function_)?node [^}]*\}\}\s*|, node name: \S+$", "", line)
    line = re.sub(r" in binary running on .*", ", which TensorFlow alone does not have", line)  # the host's name
    return redacted(line)
