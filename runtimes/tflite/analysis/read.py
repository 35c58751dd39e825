"""Analyzes what a signature does to the rows of its inputs."""

import struct
from typing import Any, Dict, List, Optional

from runtimes.contract import BatchAnalysis, Signature
from runtimes.dataflow.chance import random_operator
from runtimes.dataflow.graph import Model
from runtimes.dataflow.values import Value, operator_label
from runtimes.dataflow.walk import TooLarge, Walk, batch_analysis, batch_input

from ..entries import Entry
from . import ops  # noqa: F401  registers the rules
from .file import Reader, TooDeep
from .operators import OPERATORS, RANDOM

# What the schema's generated code raises for a malformed file.
_MALFORMED = (struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def analyze(content: bytes, entry: Entry, signature: Signature) -> BatchAnalysis:
    """Analyze the rows along the first dimension of the signature's inputs. Its shapes may be those in model.toml.

    LiteRT resizes inputs to the shape in the request, so the sizes of intermediate tensors in the file, which are
    usually those of one row, are not used.
    """
    try:
        graph = Reader(content).graph(entry.subgraph, [entry.outputs[spec.name] for spec in signature.outputs])
    except (TooDeep, RecursionError):
        return BatchAnalysis(unknown=("the graph is too deep to follow",))
    except _MALFORMED:
        return BatchAnalysis(unknown=("the graph cannot be read",))
    model = Model(graph, {}, {})
    chance = random_operator(model, RANDOM)
    walk = Walk(model, OPERATORS)
    inputs: Dict[str, Value] = {}
    unknown: List[str] = []
    for spec in signature.inputs:
        value, why = batch_input(operator_label("input", spec.name), _open(spec.shape))
        inputs[str(entry.inputs[spec.name])] = value
        if why:
            unknown.append(why)
    if not inputs:
        unknown.append("the signature has no inputs")
    try:
        results = walk.graph(graph, None, inputs)
    except (TooLarge, RecursionError):
        return BatchAnalysis(unknown=("the graph is too large to follow",), random=chance)
    outputs = {spec.name: value for spec, value in zip(signature.outputs, results)}
    return batch_analysis(walk, outputs, unknown)._replace(random=chance)


def _open(shape: Any) -> Optional[List[Any]]:
    return None if shape is None else [None if size < 0 else size for size in shape]
