"""Analyzes whether the rows of an ONNX model's inputs influence each other."""

from typing import Dict, List

from runtimes.contract import BatchAnalysis, Signature
from runtimes.dataflow.chance import random_operator
from runtimes.dataflow.graph import Model
from runtimes.dataflow.values import Value, operator_label
from runtimes.dataflow.walk import TooLarge, Walk, batch_analysis, batch_input

from . import ops  # noqa: F401  registers the rules
from .operators import OPERATORS, RANDOM


def analyze(model: Model, signature: Signature) -> BatchAnalysis:
    """Analyze the model, with the rows in the first dimension of the signature's inputs."""
    walk = Walk(model, OPERATORS)
    constants = {tensor.name for tensor in model.graph.constants}
    inputs: Dict[str, Value] = {}
    unknown: List[str] = []
    served = {spec.name for spec in signature.inputs}
    first = {dims[0] for name, dims in model.graph.inputs if dims and name in served and isinstance(dims[0], str)}
    for name, dims in model.graph.inputs:
        if name in constants and name not in served:
            continue  # old files list their weights as inputs
        value, why = batch_input(operator_label("input", name), dims, first)
        inputs[name] = value
        if why:
            unknown.append(why)
    if not inputs:
        unknown.append("the signature has no inputs")
    chance = random_operator(model, RANDOM)
    try:
        results = dict(zip(model.graph.outputs, walk.graph(model.graph, None, inputs)))
    except (TooLarge, RecursionError):
        return BatchAnalysis(unknown=("the graph is too large to be followed",), random=chance)
    outputs = {spec.name: results[spec.name] for spec in signature.outputs if spec.name in results}
    return batch_analysis(walk, outputs, unknown)._replace(random=chance)
