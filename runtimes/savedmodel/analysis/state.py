"""Finds the operators of a TensorFlow graph that change state or are random, whether or not their results are used."""

from typing import Any, Dict, Iterator, List, Sequence, Set, Tuple

from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import op_def_registry

from runtimes.contract import BatchAnalysis
from runtimes.dataflow.values import operator_label

_MAX_REASONS = 8
# An operator with a resource as its input (a variable, table, queue or generator) is assumed to change it, unless its
# name starts with one of these. TensorArrays, stacks and temporary variables only live during the run, and a table is
# initialized only once.
_READS = (
    "BoostedTreesExampleDebugOutputs", "BoostedTreesPredict", "DestroyTemporaryVariable", "DisableCopyOnRead",
    "InitializeTable", "IsBoostedTrees", "IsVariableInitialized", "LookupTableExport", "LookupTableFind",
    "LookupTableSize", "QueueIsClosed", "QueueSize", "ReadVariable", "Ref", "ResourceGather", "Stack", "TensorArray",
    "VarIsInitialized", "VariableShape",
)  # fmt: skip
# Operators that change files, or state that the process stores by name.
_WRITES = (
    "DatasetToTFRecord", "DistributedSave", "MapClear", "MapStage", "MapUnstage", "MergeV2Checkpoints",
    "OrderedMapClear", "OrderedMapStage", "OrderedMapUnstage", "Save", "Stage", "Unstage", "WriteFile",
)  # fmt: skip
_RANDOM = (
    "Multinomial", "NonDeterministicInts", "ParameterizedTruncatedNormal", "RandomCrop", "RandomGamma",
    "RandomPoisson", "RandomShuffle", "RandomStandardNormal", "RandomUniform", "SampleDistortedBoundingBox",
    "TruncatedNormal",
)  # fmt: skip
_QUEUES = ("RandomShuffleQueue",)
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase", "While", "StatelessWhile")
_SWITCHES = ("Switch", "RefSwitch")


def of_nodes(nodes: Sequence[Any], library: Sequence[Any]) -> BatchAnalysis:
    """Return `mixes` for operators that certainly draw random numbers, `writes` and `random`; nothing about rows."""
    functions = {function.signature.name: function.node_def for function in library}
    mixes: List[str] = []
    writes: List[str] = []
    chance = ""
    seen: Set[Tuple[str, bool]] = set()
    stack: List[Tuple[Sequence[Any], bool]] = [(nodes, False)]
    while stack:
        body, conditional = stack.pop()
        conditional = conditional or any(node.op in _SWITCHES for node in body)
        for node in body:
            if _writes(node.op):
                writes.append("%s changes what the next run reads" % operator_label(node.op, node.name))
            elif node.op.startswith(_RANDOM) and not node.op.startswith(_QUEUES):
                found = "%s is random" % operator_label(node.op, node.name)
                chance = chance or found
                if not conditional:
                    # An operator behind a condition may never run, such as dropout that is only for training.
                    mixes.append(found)
            for name in _called_by(node, functions):
                key = (name, conditional or node.op in _BRANCHES)
                if key not in seen:
                    seen.add(key)
                    stack.append((functions[name], key[1]))
    found_mixes, found_writes = (tuple(dict.fromkeys(reasons))[:_MAX_REASONS] for reasons in (mixes, writes))
    return BatchAnalysis(found_mixes, found_writes, random=chance)


def _writes(operator: str) -> bool:
    if operator.startswith(_WRITES):
        return True
    definition = op_def_registry.get(operator)  # None for a function in the graph's library
    if definition is None or operator.startswith(_READS) or "Dataset" in operator:
        return False
    return any(argument.type == types_pb2.DT_RESOURCE or argument.is_ref for argument in definition.input_arg)


def _called_by(node: Any, functions: Dict[str, Any]) -> Iterator[str]:
    if node.op in functions:
        yield node.op
    for value in node.attr.values():
        for name in [value.func.name] + [function.name for function in value.list.func]:
            if name in functions:
                yield name
