"""Analyzes what a symbol does to the rows of its inputs."""

from typing import Dict, List, Sequence

from runtimes.contract import BatchAnalysis, Signature
from runtimes.dataflow.chance import random_operator
from runtimes.dataflow.values import Value, operator_label, unsure
from runtimes.dataflow.walk import TooLarge, Walk, batch_analysis, batch_input

from . import ops  # noqa: F401  registers the rules
from .file import labels, of_json
from .operators import OPERATORS
from .ops.elementwise import RANDOM


def analyze(
    symbol: str, shapes: Dict[str, Sequence[int]], signature: Signature, outputs: Sequence[str]
) -> BatchAnalysis:
    """Analyze the rows along the first dimension of the signature's inputs, in inference mode.

    symbol   JSON from `Symbol.tojson`
    shapes   shapes of the parameters and auxiliary states
    outputs  names of all outputs of the symbol, in its order
    """
    model = of_json(symbol, shapes, [spec.name for spec in signature.inputs])
    chance = random_operator(model, RANDOM)
    walk = Walk(model, OPERATORS)
    inputs: Dict[str, Value] = {}
    unknown: List[str] = []
    for spec in signature.inputs:
        sizes = None if spec.shape is None else [None if size < 0 else size for size in spec.shape]
        inputs[spec.name], why = batch_input(operator_label("input", spec.name), sizes)
        if why:
            unknown.append(why)
    if not inputs:
        unknown.append("the signature has no inputs")
    for name in labels(symbol, list(inputs) + list(shapes)):
        inputs[name] = unsure("label '%s' has the number of rows in its shape" % name)
    try:
        results = dict(zip(outputs, walk.graph(model.graph, None, inputs)))
    except (TooLarge, RecursionError):
        return BatchAnalysis(unknown=("the graph is too large to follow",), random=chance)
    served = {spec.name: results[spec.name] for spec in signature.outputs}
    return batch_analysis(walk, served, unknown)._replace(random=chance)
