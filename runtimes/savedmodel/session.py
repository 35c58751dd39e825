"""Signatures that a session of TensorFlow 1 runs: of GraphDefs, and where `tf.saved_model.load` fails."""

from functools import partial
from typing import Any, Dict, Mapping, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf

from runtimes.contract import BatchAnalysis, InputRange

from .analysis.ranges import input_ranges
from .analysis.read import of_graph
from .signatures import LoadedSignature, describe, has_python_nodes, served


def new_session(graph: tf.Graph, threads: int) -> Any:
    """threads: the number of threads that one run may use."""
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1)
    config.gpu_options.allow_growth = True
    config.allow_soft_placement = True  # as in TensorFlow 2, a graph placed on a GPU also runs without one
    return tf.compat.v1.Session(graph=graph, config=config)


def of_session(
    session: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any], defaults: Mapping[str, Any] = {}
) -> LoadedSignature:
    """Return the signature that feeds some tensors of the session's graph, and fetches others.

    inputs, outputs  tensors by name; None for what is not a tensor
    defaults         what is fed for inputs that a request leaves out; None if the graph itself has a default value
    """
    graph = session.graph
    fetched = [tensor.op.name for tensor in outputs.values() if tensor is not None]
    needed = tf.compat.v1.graph_util.extract_sub_graph(graph.as_graph_def(), fetched)
    signature, problem = describe(inputs, outputs, tuple(defaults), has_python_nodes(needed))
    fed = {spec.name: inputs[spec.name] for spec in signature.inputs}
    always = {inputs[key]: value for key, value in defaults.items() if key not in fed and value is not None}

    def run(arrays: Dict[str, np.ndarray], names: Sequence[str]) -> Any:
        feeds = dict(always)
        for key, tensor in fed.items():
            value = arrays[key] if key in arrays else defaults[key]
            if value is not None:
                feeds[tensor] = value
        return session.run({key: outputs[key] for key in names}, feeds)

    analyze = partial(_analyze, graph, fed, served(outputs), defaults)
    ranges = partial(_ranges, graph, fed, served(outputs))
    return LoadedSignature(signature, run, analyze, ranges, partial(_definition, graph, fetched), problem)


def _analyze(
    graph: tf.Graph, fed: Mapping[str, Any], outputs: Mapping[str, Any], defaults: Mapping[str, Any]
) -> BatchAnalysis:
    """Analyze the graph for requests with all inputs, and for those without the optional ones."""
    found = of_graph(graph, fed.values(), dict(outputs), {})
    if not any(key in defaults for key in fed):
        return found
    needed = [tensor for key, tensor in fed.items() if key not in defaults]
    known = {fed[key].name: value for key, value in defaults.items() if key in fed and value is not None}
    return joined(found, of_graph(graph, needed, dict(outputs), known))


def joined(one: BatchAnalysis, other: BatchAnalysis) -> BatchAnalysis:
    """Return what holds if a request may run either way."""

    def both(field: str) -> Tuple[str, ...]:
        return tuple(dict.fromkeys(getattr(one, field) + getattr(other, field)))

    return BatchAnalysis(both("mixes"), both("writes"), both("unknown"), random=one.random or other.random)


def _ranges(graph: tf.Graph, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Dict[str, InputRange]:
    keys = {tensor.name: key for key, tensor in inputs.items()}
    return input_ranges(graph.as_graph_def(), keys, {}, [tensor.name for tensor in outputs.values()])


def _definition(graph: tf.Graph, fetched: Sequence[str]) -> Tuple[Any, Set[str]]:
    definition = graph.as_graph_def(add_shapes=True)
    return tf.compat.v1.graph_util.extract_sub_graph(definition, list(fetched)), set()
