"""TensorFlow's two loaders for a SavedModel. Both return its signatures by name."""

import os
from functools import partial
from typing import Any, Callable, Dict, NamedTuple, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf

from runtimes.contract import BatchAnalysis, InputRange, LoadOptions, Signature, TensorSpec, datatype_of

from .analysis.ranges import input_ranges, variables
from .analysis.read import of_function, of_graph

_PYTHON_OPERATORS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


class LoadedSignature(NamedTuple):
    """
    run         computes outputs: arrays by input name, and names of outputs → arrays by output name
    analyze     analyzes the rows in the signature's graph, without running it
    ranges      reads the input ranges from the signature's graph, without running it
    definition  returns the GraphDef with the shapes of tensors, and the names of placeholders that stand for variables
    problem     why it cannot be served; "" if it can
    """

    signature: Signature
    run: Callable[[Dict[str, np.ndarray], Sequence[str]], Dict[str, Any]]
    analyze: Callable[[], BatchAnalysis]
    ranges: Callable[[], Dict[str, InputRange]]
    definition: Callable[[], Tuple[Any, Set[str]]]
    problem: str


def load_functions(folder: str, tags: Sequence[str]) -> Dict[str, LoadedSignature]:
    loaded = tf.saved_model.load(folder, tags=tags)
    calls_python = _mentions(folder, b"PyFunc")
    scalar_tables = not _mentions(folder, b"MutableDenseHashTable", b"MutableHashTableOfTensors")
    entries = {}
    for name, function in loaded.signatures.items():
        inputs = function.structured_input_signature[1]

        # The default `loaded` keeps the variables alive as long as the function.
        def run(arrays: Any, names: Any, function: Any = function, loaded: Any = loaded, inputs: Any = inputs) -> Any:
            results = function(**{key: tf.constant(arrays[key], spec.dtype) for key, spec in inputs.items()})
            return {key: results[key].numpy() for key in names}

        needs_python = calls_python and _has_python_nodes(function.graph.as_graph_def())
        analyze = partial(of_function, function, _results(function), scalar_tables)
        ranges = partial(_ranges_of_function, function)
        definition = partial(_definition_of_function, function)
        entries[name] = _signature(inputs, function.structured_outputs, run, analyze, ranges, definition, needs_python)
    return entries


def _results(function: Any) -> Dict[str, tf.Tensor]:
    """Return the served outputs as tensors of the function's graph."""
    flat = iter(function.outputs)
    tensors = {
        key: [next(flat) for _ in tf.nest.flatten(value, expand_composites=True)]
        for key, value in sorted(function.structured_outputs.items())
    }
    return {key: tensors[key][0] for key in _served(function.structured_outputs)}


def load_session(options: LoadOptions, tags: Sequence[str]) -> Dict[str, LoadedSignature]:
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=options.threads, inter_op_parallelism_threads=1)
    config.gpu_options.allow_growth = True
    config.allow_soft_placement = True  # as in TensorFlow 2, a graph placed on a GPU also runs without one
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=config)
    with graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, tags, options.artifact)
    calls_python = _mentions(options.artifact, b"PyFunc")
    entries = {}
    for name, definition in loaded.signature_def.items():
        # Old versions of TensorFlow wrote wrong datatypes and shapes into the definition; the graph has the right ones.
        inputs = {key: _tensor(graph, info) for key, info in definition.inputs.items()}
        outputs = {key: _tensor(graph, info) for key, info in definition.outputs.items()}

        def run(arrays: Any, names: Any, inputs: Any = inputs, outputs: Any = outputs) -> Any:
            fetches = {key: outputs[key] for key in names}
            return session.run(fetches, {inputs[key]: arrays[key] for key in inputs})

        fetched = [tensor.op.name for tensor in outputs.values() if tensor is not None]
        needs_python = calls_python and _has_python_nodes(
            tf.compat.v1.graph_util.extract_sub_graph(graph.as_graph_def(), fetched)
        )
        fed = [tensor for tensor in inputs.values() if tensor is not None]
        analyze = partial(of_graph, graph, fed, _served(outputs))
        ranges = partial(_ranges_of_graph, graph, inputs, _served(outputs))
        definition = partial(_definition_of_graph, graph, fetched)
        entries[name] = _signature(inputs, outputs, run, analyze, ranges, definition, needs_python)
    return entries


def _mentions(folder: str, *words: bytes) -> bool:
    """Whether the file contains one of these words. This is cheap, and avoids searching large graphs in vain."""
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        content = file.read()
    return any(word in content for word in words)


def _has_python_nodes(graph: Any) -> bool:
    """Whether a graph or one of its functions calls a Python function, which is not part of the file."""
    functions = [function.node_def for function in graph.library.function]
    return any(node.op in _PYTHON_OPERATORS for nodes in [graph.node, *functions] for node in nodes)


def _tensor(graph: tf.Graph, info: Any) -> Any:
    """Return the tensor of a signature's input or output; None if it is something else (an operation, sparse)."""
    if info.WhichOneof("encoding") != "name" or ":" not in info.name:
        return None
    tensor = graph.get_tensor_by_name(info.name)
    if tensor.shape.rank is None and info.tensor_shape.dim:
        tensor.set_shape([None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim])
    return tensor


def _served(outputs: Dict[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in outputs.items() if not _reason(value)}


def _ranges_of_function(function: Any) -> Dict[str, InputRange]:
    captured = variables(function)
    arguments = [tensor.name for tensor in function.inputs if tensor.name not in captured]
    keys = sorted(function.structured_input_signature[1])
    outputs = [tensor.name for tensor in _results(function).values()]
    return input_ranges(function.graph.as_graph_def(), dict(zip(arguments, keys)), captured, outputs)


def _ranges_of_graph(graph: tf.Graph, inputs: Dict[str, Any], outputs: Dict[str, Any]) -> Dict[str, InputRange]:
    keys = {tensor.name: key for key, tensor in inputs.items() if tensor is not None}
    return input_ranges(graph.as_graph_def(), keys, {}, [tensor.name for tensor in outputs.values()])


def _definition_of_function(function: Any) -> Tuple[Any, Set[str]]:
    captured = {inner.op.name for _, inner in function.graph.captures}
    return function.graph.as_graph_def(add_shapes=True), captured


def _definition_of_graph(graph: tf.Graph, fetched: Sequence[str]) -> Tuple[Any, Set[str]]:
    definition = graph.as_graph_def(add_shapes=True)
    return tf.compat.v1.graph_util.extract_sub_graph(definition, list(fetched)), set()


def _signature(
    inputs: Dict[str, Any],
    outputs: Dict[str, Any],
    run: Any,
    analyze: Any,
    ranges: Any,
    definition: Any,
    calls_python: bool,
) -> LoadedSignature:
    refused = {key: reason for key, reason in ((key, _reason(value)) for key, value in outputs.items()) if reason}
    served = _served(outputs)
    problem = ""
    if calls_python:
        problem = (
            "it calls a Python function (tf.py_function or tf.numpy_function), which exists only in the process that "
            "saved it"
        )
    for key, value in inputs.items():
        if _reason(value):
            problem = "input '%s' cannot be served: %s" % (key, _reason(value))
    if not served:
        reasons = "; ".join("output '%s' cannot be served: %s" % each for each in refused.items())
        problem = problem or reasons or "it has no outputs"
    if problem:
        return LoadedSignature(Signature((), ()), run, analyze, ranges, definition, problem)
    return LoadedSignature(Signature(_specs(inputs), _specs(served), refused), run, analyze, ranges, definition, "")


def _reason(value: Any) -> str:
    """Return why an input or output cannot be served; "" if it can."""
    if isinstance(value, (tf.TensorSpec, tf.Tensor)):
        return "" if _datatype(value.dtype) else "it is %s, which the protocol lacks" % value.dtype.name
    kind = type(value).__name__
    layout = next((word for word in ("ragged", "sparse") if word in kind.lower()), "")
    return "it is a %s tensor, which the protocol lacks" % layout if layout else "it is not a tensor"


def _specs(values: Dict[str, Any]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(key, _datatype(value.dtype), _shape(value.shape)) for key, value in sorted(values.items()))


def _shape(shape: tf.TensorShape) -> Any:
    return None if shape.rank is None else tuple(-1 if size is None else size for size in shape.as_list())


def _datatype(dtype: tf.DType) -> str:
    """Return the protocol's name of a datatype; "" if it has none."""
    if dtype.base_dtype in (tf.resource, tf.variant):  # TensorFlow maps these to numpy's object, like strings
        return ""
    try:
        return datatype_of(dtype.base_dtype.as_numpy_dtype)
    except (KeyError, TypeError):
        return ""
