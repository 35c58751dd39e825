"""Finds operators of a PyTorch graph that change the model's state or are random, wherever they are in the graph."""

from typing import Any, Iterable, List

import torch

from runtimes.contract import BatchAnalysis
from runtimes.dataflow.values import operator_label

_MAX_REASONS = 8  # of each kind, for the log
_RANDOM = (
    "rand rand_like randn randn_like randint randint_like randperm normal normal_ bernoulli bernoulli_ multinomial"
)
_DROPOUT = "dropout dropout_ feature_dropout alpha_dropout feature_alpha_dropout"


def of_exported(exported: Any) -> BatchAnalysis:
    # Writes to inputs are harmless, because the inputs are copies.
    written = list(exported.graph_signature.buffers_to_mutate.values())
    buffers = dict(exported.graph_signature.inputs_to_buffers)  # node → buffer; views of them are added below
    mixes = []
    for node in exported.graph.nodes:
        if node.op != "call_function":
            continue
        schema = getattr(node.target, "_schema", None)
        for argument, given in zip(schema.arguments if schema else (), node.args):
            name = buffers.get(getattr(given, "name", ""))
            if name is not None and argument.alias_info is not None:
                buffers[node.name] = name
                if argument.alias_info.is_write:
                    written.append(name)
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            # Dropout has this tag even if it is off.
            given = list(node.args) + list(node.kwargs.values())
            attends = "dropout_p" in [argument.name for argument in schema.arguments] if schema else False
            if not attends and not any(argument is False for argument in given):
                mixes.append("%s is random" % operator_label(str(node.target), node.name))
    return _analysis(["buffer '%s' is written to" % name for name in written], mixes)


def of_scripted(graph: Any) -> BatchAnalysis:
    """Analyze a graph with all calls inlined.

    Operators in a branch count as unknown, because the branch may never run: every batch normalization contains one for
    the training mode.
    """
    writes, mixes, perhaps = [], [], []  # type: List[str], List[str], List[str]
    pending = [(graph, False)]
    while pending:
        block, chosen = pending.pop()
        for node in block.nodes():
            pending.extend((inner, True) for inner in node.blocks())
            kind, inputs = node.kind(), list(node.inputs())
            name = kind[len("aten::") :] if kind.startswith("aten::") else ""
            if kind == "prim::SetAttr":
                (perhaps if chosen else writes).append("an attribute is written to")
            elif name.endswith("_") and "!" in node.schema() and inputs[0].node().kind() == "prim::GetAttr":
                reason = "%s writes to attribute '%s'" % (kind, inputs[0].node().s("name"))
                (perhaps if chosen else writes).append(reason)
            elif name == "batch_norm" and _true(inputs, 5):
                writes.append("batch_norm in training mode keeps mean and variance")
                mixes.append("batch_norm in training mode takes mean and variance of all rows")
            elif name in _RANDOM.split() or (name in _DROPOUT.split() and _true(inputs, 2)):
                (perhaps if chosen else mixes).append("%s is random" % kind)
            elif kind in ("quantized::linear_dynamic", "quantized::linear_relu_dynamic"):
                mixes.append("%s takes one scale from all rows" % kind)
    return _analysis(writes, mixes)._replace(unknown=tuple(dict.fromkeys(perhaps))[:_MAX_REASONS])


def joined(found: BatchAnalysis, walked: BatchAnalysis, whole: bool = True) -> BatchAnalysis:
    """Combine with the analysis of the rows, which, if it covers the whole graph, knows which branches run.

    whole: whether it covers the whole graph.
    """
    unknown = walked.unknown if whole else walked.unknown + found.unknown
    mixes = walked.mixes or (found.mixes if walked.unknown else ())
    return walked._replace(mixes=mixes, writes=found.writes or walked.writes, unknown=unknown)


def _true(inputs: List[Any], index: int) -> bool:
    """Return whether an argument is the constant True."""
    return index < len(inputs) and inputs[index].toIValue() is True


def _analysis(writes: Iterable[str], mixes: Iterable[str]) -> BatchAnalysis:
    found = [tuple(dict.fromkeys(reasons))[:_MAX_REASONS] for reasons in (mixes, writes)]
    return BatchAnalysis(found[0], found[1])
