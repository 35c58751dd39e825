"""Signatures that a session of TensorFlow 1 runs: of GraphDefs, and where `tf.saved_model.load` fails."""

from functools import partial
from typing import Any, Dict, Mapping, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf

from runtimes.contract import InputRange

from .analysis.ranges import input_ranges
from .analysis.read import of_graph
from .ends import needed
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
    tensors = [tensor for tensor in outputs.values() if tensor is not None]
    stops = {tensor.name for key, tensor in inputs.items() if tensor is not None and key not in defaults}
    runs = {each.name for each in needed(tensors, stops)}
    definition = graph.as_graph_def()
    calls_python = has_python_nodes([node for node in definition.node if node.name in runs], definition.library)
    signature, problem = describe(inputs, outputs, defaults, calls_python)
    fed = {spec.name: inputs[spec.name] for spec in signature.inputs}
    constants = {inputs[key]: value for key, value in defaults.items() if value is not None}

    def run(arrays: Dict[str, np.ndarray], names: Sequence[str]) -> Any:
        feeds = {**constants, **{inputs[key]: array for key, array in arrays.items()}}
        return session.run({key: outputs[key] for key in names}, feeds)

    known = {tensor.name: value for tensor, value in constants.items()}
    analyze = partial(of_graph, graph, fed, served(outputs), known)
    ranges = partial(_ranges, graph, fed, served(outputs))
    fetched = [tensor.op.name for tensor in tensors]
    return LoadedSignature(signature, run, analyze, ranges, partial(_definition, graph, fetched), problem)


def _ranges(graph: tf.Graph, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Dict[str, InputRange]:
    keys = {tensor.name: key for key, tensor in inputs.items()}
    return input_ranges(graph.as_graph_def(), keys, {}, [tensor.name for tensor in outputs.values()])


def _definition(graph: tf.Graph, fetched: Sequence[str]) -> Tuple[Any, Set[str]]:
    definition = graph.as_graph_def(add_shapes=True)
    return tf.compat.v1.graph_util.extract_sub_graph(definition, list(fetched)), set()
