"""Analyzes what a signature does to the rows of its inputs, which state it changes, and where it is random."""

from typing import Any, Dict, List, Mapping

import numpy as np
import tensorflow as tf

from runtimes.contract import BatchAnalysis
from runtimes.dataflow.sizes import MAX_DIMENSIONS
from runtimes.dataflow.values import MAX_CONTENTS, Value, constant, operator_label
from runtimes.dataflow.walk import TooLarge, Walk, batch_analysis, batch_input

from ..ends import needed as operations_for
from . import (
    ops,  # noqa: F401  registers the rules
    state,
)
from .graph import model_of, shape_of
from .operators import OPERATORS, TABLE, marked


def of_function(
    function: Any,
    names: Mapping[str, str],
    outputs: Dict[str, tf.Tensor],
    scalar_tables: bool,
    defaults: Mapping[str, Any],
) -> BatchAnalysis:
    """Analyze a concrete function, in which every operator with an effect runs, whichever outputs are requested.

    names          tensor → name of the input
    outputs        the served outputs by name
    scalar_tables  whether all tables of the model have a single value per key
    defaults       tensor → array, for inputs that are left out
    """
    definition = function.graph.as_graph_def(add_shapes=True)
    captured = {inner.name: _captured(outer, scalar_tables) for outer, inner in function.graph.captures}
    captured.update(_constants(defaults))
    given = [tensor for tensor in function.inputs if tensor.name not in captured]
    inputs = {names[tensor.name]: tensor for tensor in given}
    rows = _rows(definition, inputs, outputs, captured)
    return _joined(rows, state.of_nodes(definition.node, definition.library.function))


def of_graph(
    graph: tf.Graph, inputs: Mapping[str, tf.Tensor], outputs: Dict[str, tf.Tensor], defaults: Mapping[str, Any]
) -> BatchAnalysis:
    """Analyze a session's graph, in which only the dependencies of the outputs run, up to the inputs that are fed.

    inputs, outputs  the served ones by name
    defaults         tensor → array, for inputs that are left out
    """
    stops = {tensor.name for tensor in inputs.values()}.union(defaults)
    needed = {each.name for each in operations_for(outputs.values(), stops)}
    whole = graph.as_graph_def(add_shapes=True)
    nodes = [node for node in whole.node if node.name in needed]
    return _joined(_rows(whole, inputs, outputs, _constants(defaults)), state.of_nodes(nodes, whole.library.function))


def _rows(
    definition: Any, inputs: Mapping[str, tf.Tensor], outputs: Dict[str, tf.Tensor], captured: Dict[str, Value]
) -> BatchAnalysis:
    values = dict(captured)
    unknown: List[str] = []
    for name, tensor in inputs.items():
        values[tensor.name], why = batch_input(operator_label("input", name), shape_of(tensor.shape.as_proto()))
        if why:
            unknown.append(why)
    if not inputs:
        unknown.append("the signature has no inputs")
    names = [tensor.name for tensor in outputs.values()]
    model = model_of(definition, values, names)
    walk = Walk(model, OPERATORS)
    try:
        results = walk.graph(model.graph, None, values)
    except (TooLarge, RecursionError):
        return BatchAnalysis(unknown=("the graph is too large to follow",))
    return batch_analysis(walk, dict(zip(outputs, results)), unknown)


def _captured(tensor: Any, scalar_tables: bool) -> Value:
    """Return the value of a captured tensor. The handle of a variable is represented by the variable's value."""
    if tensor.dtype == tf.resource:
        data = getattr(tensor, "_handle_data", None)
        if data is None or not data.is_set or len(data.shape_and_type) != 1:
            return marked(TABLE) if scalar_tables else constant()
        shape = shape_of(data.shape_and_type[0].shape)
        return constant() if shape is None or None in shape else constant(shape)
    shape = shape_of(tensor.shape.as_proto())
    if shape is None or None in shape or len(shape) > MAX_DIMENSIONS:
        return constant()
    few = tensor.shape.num_elements() <= MAX_CONTENTS and (tensor.dtype.is_integer or tensor.dtype.is_bool)
    return constant(shape, tensor.numpy().ravel().tolist() if few and hasattr(tensor, "numpy") else None)


def _constants(arrays: Mapping[str, Any]) -> Dict[str, Value]:
    found = {}
    for name, array in arrays.items():
        value = np.asarray(array)
        few = value.size <= MAX_CONTENTS and value.dtype.kind in "biu"
        known = value.ndim <= MAX_DIMENSIONS
        found[name] = constant(value.shape, value.ravel().tolist() if few else None) if known else constant()
    return found


def _joined(rows: BatchAnalysis, effects: BatchAnalysis) -> BatchAnalysis:
    return BatchAnalysis(rows.mixes + effects.mixes, effects.writes, rows.unknown, random=effects.random)
