"""Determines whether a CNTK function keeps the rows of a batch independent.

CNTK's operators are defined on one sample or one sequence of samples, and do not see the batch axis. So a known
operator keeps rows independent, unless its result does not have that axis.
"""

from typing import Any, Dict, List, Optional, Sequence, Set

import cntk

from runtimes.contract import BatchAnalysis
from runtimes.dataflow.values import operator_label

# Operators on one sample or one sequence. In evaluation, Dropout is off and BatchNormalization uses the statistics in
# the file. All sequences of a batch have the same length here, so UnpackSequenceOp does not pad any of them.
_INDEPENDENT = set(
    """Abs Acos Acosh Asin Asinh Atan Atanh BatchNormalization Cast Ceil Clip Combine ConstantOp Convolution Cos
    CosDistance Cosh Crop DepthToSpace Dropout ELU ElementTimes Equal Exp Floor FutureValue Gather Greater GreaterEqual
    Hardmax Less LessEqual Log LogPlus LogSoftmax Minus Negate NoOp NotEqual OneHotOp Pad PastValue Plus Pooling Pow
    ROIPooling ReLU Reciprocal ReconcileDynamicAxis ReduceElements Reshape SELU Select Sigmoid Sin Sinh Slice Softmax
    Softplus Softsign SpaceToDepth Splice Sqrt Squeeze StableSigmoid StopGradient StraightThrough Tan Tanh Times TopK
    TransposeAxes TransposeTimes UnpackSequenceOp Unpooling""".split()
)
_MIXING = {"UnpackBatchAxis", "ToBatchAxis", "SumAll"}
_RANDOM = {"RandomDistribution", "RandomSample", "RandomSampleInclusionFrequency"}
# Operators that are independent inside these blocks, which use them to cut every sequence at the same positions.
_INDEPENDENT_IN_BLOCK = {"Sequence::Slice": {"Where", "PackedIndex", "GatherPacked"}}  # type: Dict[str, Set[str]]
_BATCH = cntk.Axis.default_batch_axis().name
# The reasons are logged; the first ones are enough to find the operators.
_MAX_REASONS = 8


class _Findings:
    def __init__(self) -> None:
        self.mixes: List[str] = []
        self.writes: List[str] = []
        self.unknown: List[str] = []
        self.seen = set()  # type: Set[str]


def analyze(function: Any, arguments: Dict[str, Any], results: Dict[str, Any]) -> BatchAnalysis:
    """Analyze a function, given its arguments and results by their served names."""
    findings = _Findings()
    for name, variable in arguments.items():
        if not _first_is_batch(variable):
            findings.unknown.append("%s has no rows of a batch" % operator_label("input", name))
    _visit(function, None, set(), findings)
    for name, variable in results.items():
        if not has_batch(variable):
            findings.mixes.append("%s has no rows of a batch" % operator_label("output", name))
        elif not _first_is_batch(variable):
            findings.unknown.append(
                "%s does not have the batch as its first dimension" % operator_label("output", name)
            )
    return BatchAnalysis(*(_first(reasons) for reasons in (findings.mixes, findings.writes, findings.unknown)))


def _visit(function: Any, bound: Optional[Dict[str, Any]], independent: Set[str], findings: _Findings) -> None:
    """Visit a function's operators.

    bound        in a block: uid of each placeholder → the variable outside that is bound to it
    independent  in a block: additional operators that keep rows independent
    """
    search = cntk.logging.graph.depth_first_search
    for each in search(function, lambda node: isinstance(node, cntk.Function), depth=0):
        if not each.is_primitive or each.uid in findings.seen:
            continue
        findings.seen.add(each.uid)
        name, at = each.op_name, operator_label(each.op_name, each.name or each.uid)
        if each.is_block:
            bindings = dict((bound or {}).items())
            for placeholder, value in each.block_arguments_mapping:
                bindings[placeholder.uid] = bindings.get(value.uid, value)
            _visit(each.block_root, bindings, _INDEPENDENT_IN_BLOCK.get(name, set()), findings)
        elif name in _MIXING:
            findings.mixes.append("%s takes the rows together" % at)
        elif name in _RANDOM:
            findings.mixes.append("%s is random" % at)
        elif name == "Assign":
            findings.writes.append("%s changes what the next run reads" % at)
        elif name not in _INDEPENDENT and name not in independent:
            findings.unknown.append("%s is not known" % at)
        elif not all(has_batch(output) for output in each.outputs):
            inputs = [(bound or {}).get(value.uid, value) for value in each.inputs]
            if any(not value.is_placeholder and has_batch(value) for value in inputs):
                findings.mixes.append("%s takes the rows together" % at)
            elif any(value.is_placeholder for value in inputs):
                findings.unknown.append("%s is not followed" % at)


def has_batch(variable: Any) -> bool:
    return any(axis.name == _BATCH for axis in variable.dynamic_axes)


def _first_is_batch(variable: Any) -> bool:
    axes = variable.dynamic_axes
    return bool(axes) and axes[0].name == _BATCH


def _first(reasons: Sequence[str]) -> Any:
    return tuple(dict.fromkeys(reasons))[:_MAX_REASONS]
