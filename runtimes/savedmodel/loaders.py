"""TensorFlow's two loaders for a SavedModel. Both return its signatures by name."""

import os
from functools import partial
from typing import Any, Callable, Dict, Iterable, Mapping, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf

from runtimes.contract import BatchAnalysis, InputRange, LoadOptions

from .analysis.ranges import input_ranges, variables
from .analysis.read import of_function
from .composites import parts_of, tensors_of
from .session import new_session, of_session
from .signatures import LoadedSignature, describe, has_python_nodes, reason

# Signature → input → the array for requests that leave it out, as `SignatureDef.defaults` has it.
Defaults = Mapping[str, Mapping[str, np.ndarray]]


def defaults_of(graph: Any) -> Dict[str, Dict[str, np.ndarray]]:
    """Return the default values in a MetaGraphDef, which TensorFlow's loaders ignore."""
    return {
        name: {key: tf.make_ndarray(value) for key, value in definition.defaults.items() if key in definition.inputs}
        for name, definition in graph.signature_def.items()
    }


def load_functions(folder: str, tags: Sequence[str], defaults: Defaults) -> Dict[str, LoadedSignature]:
    loaded = tf.saved_model.load(folder, tags=tags)
    calls_python = _mentions(folder, b"PyFunc")
    scalar_tables = not _mentions(folder, b"MutableDenseHashTable", b"MutableHashTableOfTensors")
    entries = {}
    for name, function in loaded.signatures.items():
        inputs = function.structured_input_signature[1]

        # The default `loaded` keeps the variables alive as long as the function.
        def call(arguments: Any, function: Any = function, loaded: Any = loaded) -> Any:
            return function(**arguments)

        ordered = {key: inputs[key] for key in sorted(inputs)}
        entries[name] = of_concrete_function(
            function, ordered, call, defaults.get(name, {}), calls_python, scalar_tables
        )
    return entries


def of_concrete_function(
    function: Any,
    inputs: Mapping[str, tf.TensorSpec],
    call: Callable[[Dict[str, tf.Tensor]], Dict[str, Any]],
    defaults: Mapping[str, np.ndarray],
    calls_python: bool,
    scalar_tables: bool,
) -> LoadedSignature:
    """Return the signature of a concrete function whose outputs are a dict.

    inputs         in the order of the function's arguments
    call           calls the function with tensors by input name
    defaults       input → the array for requests that leave it out
    calls_python   whether its graph has to be searched for operators that call Python
    scalar_tables  whether all tables of the model have a single value per key
    """
    structured = function.structured_outputs
    split = {key: parts_of(key, value) for key, value in sorted(structured.items())}
    outputs = {name: spec for each in split.values() for name, spec in each.items()}
    # Where each output is: the key, and the position in its ragged or sparse tensor.
    places = {name: (key, index) for key, each in split.items() for index, name in enumerate(each)}

    def run(arrays: Any, names: Any) -> Any:
        given = {key: arrays[key] if key in arrays else defaults[key] for key in inputs}
        results = call({key: tf.constant(given[key], spec.dtype) for key, spec in inputs.items()})
        found = {}
        for name in names:
            key, index = places[name]
            result = results[key]
            part = result if key == name else tf.nest.flatten(result, expand_composites=True)[index]
            found[name] = part.numpy()
        return found

    if calls_python:
        graph = function.graph.as_graph_def()
        calls_python = has_python_nodes(graph.node, graph.library)
    signature, problem = describe(inputs, outputs, defaults, calls_python)
    arguments = _arguments(function, inputs)
    analyze = partial(_analyze, function, arguments, split, scalar_tables, defaults)
    ranges = partial(_ranges, function, arguments, split)
    parts = tuple(name for name, (key, _) in places.items() if name != key)
    return LoadedSignature(signature, run, analyze, ranges, partial(_definition, function), problem, parts)


def load_session(options: LoadOptions, tags: Sequence[str], defaults: Defaults) -> Dict[str, LoadedSignature]:
    graph = tf.Graph()
    session = new_session(graph, options.threads)
    with graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, tags, options.artifact)
    entries = {}
    for name, definition in loaded.signature_def.items():
        # Old versions of TensorFlow wrote wrong datatypes and shapes into the definition; the graph has the right ones.
        inputs = {key: _tensor(graph, info.name, info) for key, info in definition.inputs.items()}
        split = {key: tensors_of(key, info) for key, info in definition.outputs.items()}
        outputs = {
            name: _tensor(graph, tensor, definition.outputs[key])
            for key, each in split.items()
            for name, tensor in each.items()
        }
        parts = tuple(name for key, each in split.items() for name in each if name != key)
        entries[name] = of_session(session, inputs, outputs, defaults.get(name, {}))._replace(parts=parts)
    return entries


def _tensor(graph: tf.Graph, name: str, info: Any) -> Any:
    """Return the tensor of a signature's input or output; None if it is something else, such as an operation."""
    if ":" not in name:
        return None
    tensor = graph.get_tensor_by_name(name)
    if tensor.shape.rank is None and info.tensor_shape.dim and info.WhichOneof("encoding") == "name":
        tensor.set_shape([None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim])
    return tensor


def _mentions(folder: str, *words: bytes) -> bool:
    """Whether the file contains one of these words. This is cheap, and avoids searching large graphs in vain."""
    path = os.path.join(folder, "saved_model.pb")
    with open(path if os.path.exists(path) else path + "txt", "rb") as file:
        content = file.read()
    return any(word in content for word in words)


def _analyze(
    function: Any,
    arguments: Mapping[str, str],
    split: Mapping[str, Any],
    scalar_tables: bool,
    defaults: Mapping[str, np.ndarray],
) -> BatchAnalysis:
    left_out = {name: defaults[key] for name, key in arguments.items() if key in defaults}
    return of_function(function, arguments, _results(function, split), scalar_tables, left_out)


def _ranges(function: Any, arguments: Mapping[str, str], split: Mapping[str, Any]) -> Dict[str, InputRange]:
    outputs = [tensor.name for tensor in _results(function, split).values()]
    return input_ranges(function.graph.as_graph_def(), dict(arguments), variables(function), outputs)


def _definition(function: Any) -> Tuple[Any, Set[str]]:
    captured = {inner.op.name for _, inner in function.graph.captures}
    return function.graph.as_graph_def(add_shapes=True), captured


def _arguments(function: Any, inputs: Iterable[str]) -> Dict[str, str]:
    """Return the tensors of the function's graph that are its inputs → the names of these."""
    captured = variables(function)
    return dict(zip([tensor.name for tensor in function.inputs if tensor.name not in captured], inputs))


def _results(function: Any, split: Mapping[str, Any]) -> Dict[str, tf.Tensor]:
    """Return the served outputs as tensors of the function's graph."""
    flat = iter(function.outputs)
    found = {}
    for key, parts in split.items():
        tensors = [next(flat) for _ in tf.nest.flatten(function.structured_outputs[key], expand_composites=True)]
        found.update((name, tensor) for name, tensor in zip(parts, tensors) if not reason(parts[name]))
    return found
