"""What the operators of a TensorFlow graph change, and where they are random."""

from typing import Any, Dict, Iterable, Iterator, List, Sequence, Set, Tuple

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import op_def_registry

from runtimes.contract import BatchAnalysis
from runtimes.dataflow.values import called

_NOT_FOLLOWED = "the rows of a TensorFlow graph are not followed"
_MOST_REASONS = 8
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
_PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase", "While", "StatelessWhile")
_SWITCHES = ("Switch", "RefSwitch")


def of_function(function: Any) -> BatchAnalysis:
    """Of a concrete function: everything in it that has an effect runs, whatever is asked for."""
    graph = function.graph.as_graph_def()
    return _analysis(graph.node, graph.library.function)


def of_graph(graph: tf.Graph, inputs: Iterable[tf.Tensor], outputs: Iterable[tf.Tensor]) -> BatchAnalysis:
    """Of a session's graph: what the outputs need runs, and nothing else. What makes an input does not run."""
    given = {tensor.name for tensor in inputs}
    needed: Set[str] = set()
    waiting = [tensor.op for tensor in outputs if tensor.name not in given]
    while waiting:
        operation = waiting.pop()
        if operation.name not in needed:
            needed.add(operation.name)
            waiting.extend(tensor.op for tensor in operation.inputs if tensor.name not in given)
            waiting.extend(operation.control_inputs)
    whole = graph.as_graph_def()
    return _analysis([node for node in whole.node if node.name in needed], whole.library.function)


def _analysis(nodes: Sequence[Any], library: Sequence[Any]) -> BatchAnalysis:
    functions = {function.signature.name: function.node_def for function in library}
    mixes: List[str] = []
    writes: List[str] = []
    unknown = [_NOT_FOLLOWED]
    seen: Set[Tuple[str, bool]] = set()
    waiting: List[Tuple[Sequence[Any], bool]] = [(nodes, False)]
    while waiting:
        body, chosen = waiting.pop()
        chosen = chosen or any(node.op in _SWITCHES for node in body)
        for node in body:
            if _writes(node.op):
                writes.append("%s changes what the next run reads" % called(node.op, node.name))
            elif node.op.startswith(_RANDOM) and not node.op.startswith(_QUEUES):
                # Behind a condition (dropout that only training has) nobody knows here whether it runs.
                (unknown if chosen else mixes).append("%s is random" % called(node.op, node.name))
            elif node.op in _PYTHON:
                unknown.append("%s runs Python" % called(node.op, node.name))
            for name in _called_by(node, functions):
                key = (name, chosen or node.op in _BRANCHES)
                if key not in seen:
                    seen.add(key)
                    waiting.append((functions[name], key[1]))
    return BatchAnalysis(*(tuple(dict.fromkeys(reasons))[:_MOST_REASONS] for reasons in (mixes, writes, unknown)))


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
