"""The two ways into a SavedModel. Both give the signatures that can be served, by name."""

import os
from functools import partial
from typing import Any, Callable, Dict, NamedTuple, Sequence, Tuple

import numpy as np
import tensorflow as tf

from runtimes.contract import BatchAnalysis, InputRange, LoadOptions, Signature, TensorSpec, datatype_of

from .analysis.ranges import input_ranges, variables
from .analysis.read import of_function, of_graph

_PYTHON_OPERATORS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


class Entry(NamedTuple):
    """One signature: `run` takes arrays by input name and the wanted names, and gives arrays.

    `analyze` and `ranges` read the signature's graph and run nothing. `problem` is why it cannot be served, in words;
    else empty.
    """

    signature: Signature
    run: Callable[[Dict[str, np.ndarray], Sequence[str]], Dict[str, Any]]
    analyze: Callable[[], BatchAnalysis]
    ranges: Callable[[], Dict[str, InputRange]]
    problem: str


def load_functions(folder: str, tags: Sequence[str]) -> Dict[str, Entry]:
    loaded = tf.saved_model.load(folder, tags=tags)
    calls_python = _mentions(folder, b"PyFunc")
    scalar_tables = not _mentions(folder, b"MutableDenseHashTable", b"MutableHashTableOfTensors")
    entries = {}
    for name, function in loaded.signatures.items():
        inputs = function.structured_input_signature[1]

        # `loaded` is a default, so that the variables live as long as the function.
        def run(arrays: Any, wanted: Any, function: Any = function, loaded: Any = loaded, inputs: Any = inputs) -> Any:
            results = function(**{key: tf.constant(arrays[key], spec.dtype) for key, spec in inputs.items()})
            return {key: results[key].numpy() for key in wanted}

        foreign = calls_python and _python_nodes(function.graph.as_graph_def())
        analyze = partial(of_function, function, _results(function), scalar_tables)
        ranges = partial(_ranges_of_function, function)
        entries[name] = _entry(inputs, function.structured_outputs, run, analyze, ranges, foreign)
    return entries


def _results(function: Any) -> Dict[str, tf.Tensor]:
    """The tensors in a function's graph that are served."""
    flat = iter(function.outputs)
    every = {
        key: [next(flat) for _ in tf.nest.flatten(value, expand_composites=True)]
        for key, value in sorted(function.structured_outputs.items())
    }
    return {key: every[key][0] for key in _served(function.structured_outputs)}


def load_session(options: LoadOptions, tags: Sequence[str]) -> Dict[str, Entry]:
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=options.threads, inter_op_parallelism_threads=1)
    config.gpu_options.allow_growth = True
    config.allow_soft_placement = True  # a graph that names a card runs where there is none, as a function does
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=config)
    with graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, tags, options.artifact)
    calls_python = _mentions(options.artifact, b"PyFunc")
    entries = {}
    for name, definition in loaded.signature_def.items():
        # Old builders wrote wrong datatypes and shapes into the definition; the graph's own are true.
        inputs = {key: _tensor(graph, info) for key, info in definition.inputs.items()}
        outputs = {key: _tensor(graph, info) for key, info in definition.outputs.items()}

        def run(arrays: Any, wanted: Any, inputs: Any = inputs, outputs: Any = outputs) -> Any:
            fetches = {key: outputs[key] for key in wanted}
            return session.run(fetches, {inputs[key]: arrays[key] for key in inputs})

        fetched = [tensor.op.name for tensor in outputs.values() if tensor is not None]
        foreign = calls_python and _python_nodes(
            tf.compat.v1.graph_util.extract_sub_graph(graph.as_graph_def(), fetched)
        )
        fed = [tensor for tensor in inputs.values() if tensor is not None]
        analyze = partial(of_graph, graph, fed, _served(outputs))
        ranges = partial(_ranges_of_graph, graph, inputs, _served(outputs))
        entries[name] = _entry(inputs, outputs, run, analyze, ranges, foreign)
    return entries


def _mentions(folder: str, *words: bytes) -> bool:
    """Whether a word is anywhere in the file; cheap, so that a large graph is only searched where it is."""
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        content = file.read()
    return any(word in content for word in words)


def _python_nodes(graph: Any) -> bool:
    """Whether a graph, or a function that it has, calls a Python function: only the process that saved it has that."""
    functions = [function.node_def for function in graph.library.function]
    return any(node.op in _PYTHON_OPERATORS for nodes in [graph.node, *functions] for node in nodes)


def _tensor(graph: tf.Graph, info: Any) -> Any:
    """The tensor behind a signature's entry, or None for what is none (an operation, a sparse tensor)."""
    if info.WhichOneof("encoding") != "name" or ":" not in info.name:
        return None
    tensor = graph.get_tensor_by_name(info.name)
    if tensor.shape.rank is None and info.tensor_shape.dim:
        tensor.set_shape([None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim])
    return tensor


def _served(outputs: Dict[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in outputs.items() if not _reason(value)}


def _ranges_of_function(function: Any) -> Dict[str, InputRange]:
    held = variables(function)
    given = [tensor.name for tensor in function.inputs if tensor.name not in held]
    keys = sorted(function.structured_input_signature[1])
    wanted = [tensor.name for tensor in _results(function).values()]
    return input_ranges(function.graph.as_graph_def(), dict(zip(given, keys)), held, wanted)


def _ranges_of_graph(graph: tf.Graph, inputs: Dict[str, Any], outputs: Dict[str, Any]) -> Dict[str, InputRange]:
    given = {tensor.name: key for key, tensor in inputs.items() if tensor is not None}
    return input_ranges(graph.as_graph_def(), given, {}, [tensor.name for tensor in outputs.values()])


def _entry(
    inputs: Dict[str, Any], outputs: Dict[str, Any], run: Any, analyze: Any, ranges: Any, calls_python: bool
) -> Entry:
    refused = {key: reason for key, reason in ((key, _reason(value)) for key, value in outputs.items()) if reason}
    served = _served(outputs)
    problem = ""
    if calls_python:
        problem = (
            "it calls a Python function (tf.py_function or tf.numpy_function), which only the process that saved it has"
        )
    for key, value in inputs.items():
        if _reason(value):
            problem = "input '%s' cannot be served: %s" % (key, _reason(value))
    if not served:
        wrong = "; ".join("output '%s' cannot be served: %s" % each for each in refused.items())
        problem = problem or wrong or "it has no outputs"
    if problem:
        return Entry(Signature((), ()), run, analyze, ranges, problem)
    return Entry(Signature(_specs(inputs), _specs(served), refused), run, analyze, ranges, "")


def _reason(value: Any) -> str:
    """Why an input or output cannot be served; empty if it can."""
    if isinstance(value, (tf.TensorSpec, tf.Tensor)):
        return "" if _datatype(value.dtype) else "it is %s, which the protocol lacks" % value.dtype.name
    kind = type(value).__name__
    told = next((word for word in ("ragged", "sparse") if word in kind.lower()), "")
    return "it is a %s tensor, which the protocol lacks" % told if told else "it is not a tensor"


def _specs(values: Dict[str, Any]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(key, _datatype(value.dtype), _shape(value.shape)) for key, value in sorted(values.items()))


def _shape(shape: tf.TensorShape) -> Any:
    return None if shape.rank is None else tuple(-1 if size is None else size for size in shape.as_list())


def _datatype(dtype: tf.DType) -> str:
    """The protocol's name; "" where it has none."""
    if dtype.base_dtype in (tf.resource, tf.variant):  # numpy's object to TensorFlow, as strings are
        return ""
    try:
        return datatype_of(dtype.base_dtype.as_numpy_dtype)
    except (KeyError, TypeError):
        return ""
