"""What the operators of a TensorFlow graph change, and where they are random; every one that runs, used or not."""

from typing import Any, Dict, Iterator, List, Sequence, Set, Tuple

from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import op_def_registry

from runtimes.contract import BatchAnalysis
from runtimes.dataflow.values import operator_label

_MAX_REASONS = 8
# An operator that takes a variable, a table, a queue, a generator or the like changes it, unless it begins like these.
# What TensorArrays, stacks and temporary variables hold ends with the run; a table is initialised only once.
_READS = (
    "BoostedTreesExampleDebugOutputs", "BoostedTreesPredict", "DestroyTemporaryVariable", "DisableCopyOnRead",
    "InitializeTable", "IsBoostedTrees", "IsVariableInitialized", "LookupTableExport", "LookupTableFind",
    "LookupTableSize", "QueueIsClosed", "QueueSize", "ReadVariable", "Ref", "ResourceGather", "Stack", "TensorArray",
    "VarIsInitialized", "VariableShape",
)  # fmt: skip
# What changes files, or what the process holds by name.
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
    """`mixes` where random numbers are sure to be drawn, and `writes`; what the rows do is not looked at."""
    functions = {function.signature.name: function.node_def for function in library}
    mixes: List[str] = []
    writes: List[str] = []
    seen: Set[Tuple[str, bool]] = set()
    waiting: List[Tuple[Sequence[Any], bool]] = [(nodes, False)]
    while waiting:
        body, chosen = waiting.pop()
        chosen = chosen or any(node.op in _SWITCHES for node in body)
        for node in body:
            if _writes(node.op):
                writes.append("%s changes what the next run reads" % operator_label(node.op, node.name))
            elif node.op.startswith(_RANDOM) and not node.op.startswith(_QUEUES) and not chosen:
                # Behind a condition (dropout that only training has) nobody knows here whether it runs.
                mixes.append("%s is random" % operator_label(node.op, node.name))
            for name in _called_by(node, functions):
                key = (name, chosen or node.op in _BRANCHES)
                if key not in seen:
                    seen.add(key)
                    waiting.append((functions[name], key[1]))
    return BatchAnalysis(*(tuple(dict.fromkeys(reasons))[:_MAX_REASONS] for reasons in (mixes, writes)))


def _writes(operator: str) -> bool:
    if operator.startswith(_WRITES):
        return True
    definition = op_def_registry.get(operator)  # None for a function that is called by its name
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
