"""Finds operators of a PyTorch graph that change the model's state or are random, wherever they are in the graph."""

from typing import Any, Iterable, List, Optional

import torch

from runtimes.contract import BatchAnalysis
from runtimes.dataflow.values import operator_label

from .schemas import operator_of, shared_input

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
        if _draws(node):
            mixes.append("%s is random" % operator_label(str(node.target), node.name))
    inner = [module.graph.nodes for module in exported.graph_module.modules() if hasattr(module, "graph")]
    drawing = (operator_label(str(node.target), node.name) for nodes in inner for node in nodes if _draws(node))
    chance = next(("%s is random" % label for label in drawing), "")
    return _analysis(["buffer '%s' is written to" % name for name in written], mixes)._replace(random=chance)


def _draws(node: Any) -> bool:
    """Return whether a node of an exported program draws random numbers."""
    if node.op != "call_function" or torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    # Dropout has this tag even if it is off.
    schema = getattr(node.target, "_schema", None)
    attends = "dropout_p" in [argument.name for argument in schema.arguments] if schema else False
    return not attends and not any(argument is False for argument in [*node.args, *node.kwargs.values()])


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
            elif "!" in node.schema() and _written_attribute(node) is not None:
                reason = "%s writes to attribute '%s'" % (kind, _written_attribute(node))
                (perhaps if chosen else writes).append(reason)
            elif name == "batch_norm" and _true(inputs, 5):
                writes.append("batch_norm in training mode keeps mean and variance")
                mixes.append("batch_norm in training mode takes mean and variance of all rows")
            elif _is_random(name, inputs):
                (perhaps if chosen else mixes).append("%s is random" % kind)
            elif kind in ("quantized::linear_dynamic", "quantized::linear_relu_dynamic"):
                mixes.append("%s takes one scale from all rows" % kind)
    unknown = tuple(dict.fromkeys(perhaps))[:_MAX_REASONS]
    return _analysis(writes, mixes)._replace(unknown=unknown, random=_chance(graph))


def _written_attribute(node: Any) -> Optional[str]:
    """Return the attribute that an operator writes to, or a view or an element of which it writes to."""
    inputs = list(node.inputs())
    for index in operator_of(node.schema()).written:
        value = inputs[index]
        while value is not None:
            maker = value.node()
            if maker.kind() == "prim::GetAttr":
                return str(maker.s("name"))
            value = shared_input(maker)
    return None


def _is_random(name: str, inputs: List[Any]) -> bool:
    return name in _RANDOM.split() or (name in _DROPOUT.split() and _true(inputs, 2))


def _chance(graph: Any) -> str:
    """Return what the log says of an operator that draws random numbers, in any branch but those for training."""
    pending = [graph]
    while pending:
        for node in pending.pop().nodes():
            kind = node.kind()
            if kind.startswith("aten::") and _is_random(kind[len("aten::") :], list(node.inputs())):
                return "%s is random" % kind
            pending.extend(_blocks(node))
    return ""


def _blocks(node: Any) -> List[Any]:
    """Return the blocks of a node that may run while a model is served."""
    blocks = list(node.blocks())
    if node.kind() == "prim::If":
        condition = next(iter(node.inputs()))
        chosen, source = condition.toIValue(), condition.node()
        if source.kind() == "prim::GetAttr" and source.s("name") == "training":
            chosen = False
        if chosen is not None:
            return blocks[:1] if chosen else blocks[1:]
    return blocks


def joined(found: BatchAnalysis, walked: BatchAnalysis, whole: bool = True) -> BatchAnalysis:
    """Combine with the analysis of the rows, which, if it covers the whole graph, knows which branches run.

    whole: whether it covers the whole graph.
    """
    unknown = walked.unknown if whole else walked.unknown + found.unknown
    mixes = walked.mixes or (found.mixes if walked.unknown else ())
    writes = found.writes or walked.writes
    return walked._replace(mixes=mixes, writes=writes, unknown=unknown, random=found.random)


def _true(inputs: List[Any], index: int) -> bool:
    """Return whether an argument is the constant True."""
    return index < len(inputs) and inputs[index].toIValue() is True


def _analysis(writes: Iterable[str], mixes: Iterable[str]) -> BatchAnalysis:
    found = [tuple(dict.fromkeys(reasons))[:_MAX_REASONS] for reasons in (mixes, writes)]
    return BatchAnalysis(found[0], found[1])
