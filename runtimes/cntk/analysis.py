"""What becomes of a batch's rows in a function of CNTK's.

CNTK's operators are defined on one sample, or one sequence of them; the batch is an axis that is none of theirs. So
an operator that is known keeps rows apart, unless its result lacks that axis.
"""

from typing import Any, Dict, Optional, Sequence, Set

import cntk

from runtimes.contract import BatchAnalysis
from runtimes.dataflow.values import called

# Of one sample, or one sequence. Dropout is off when a function is evaluated, and BatchNormalization takes the
# statistics in the file. A batch's sequences are equally long here, so that UnpackSequenceOp pads none of them.
_APART = set(
    """Abs Acos Acosh Asin Asinh Atan Atanh BatchNormalization Cast Ceil Clip Combine ConstantOp Convolution Cos
    CosDistance Cosh Crop DepthToSpace Dropout ELU ElementTimes Equal Exp Floor FutureValue Gather Greater GreaterEqual
    Hardmax Less LessEqual Log LogPlus LogSoftmax Minus Negate NoOp NotEqual OneHotOp Pad PastValue Plus Pooling Pow
    ROIPooling ReLU Reciprocal ReconcileDynamicAxis ReduceElements Reshape SELU Select Sigmoid Sin Sinh Slice Softmax
    Softplus Softsign SpaceToDepth Splice Sqrt Squeeze StableSigmoid StopGradient StraightThrough Tan Tanh Times TopK
    TransposeAxes TransposeTimes UnpackSequenceOp Unpooling""".split()
)
_TOGETHER = {"UnpackBatchAxis", "ToBatchAxis", "SumAll"}
_RANDOM = {"RandomDistribution", "RandomSample", "RandomSampleInclusionFrequency"}
# Parts that do more than the whole: each sequence is cut at the same places.
_PARTS = {"Sequence::Slice": {"Where", "PackedIndex", "GatherPacked"}}  # type: Dict[str, Set[str]]
_BATCH = cntk.Axis.default_batch_axis().name
_MAX_REASONS = 8


class _Found:
    def __init__(self) -> None:
        self.mixes, self.writes, self.unknown = [], [], []  # type: List[str], List[str], List[str]
        self.seen = set()  # type: Set[str]


def analyse(function: Any, arguments: Dict[str, Any], results: Dict[str, Any]) -> BatchAnalysis:
    """Of a function with these arguments and results by the names that clients know."""
    found = _Found()
    for name, variable in arguments.items():
        if not _first_is_batch(variable):
            found.unknown.append("%s has no rows of a batch" % called("input", name))
    _look(function, None, set(), found)
    for name, variable in results.items():
        if not _has_batch(variable):
            found.mixes.append("%s has no rows of a batch" % called("output", name))
        elif not _first_is_batch(variable):
            found.unknown.append("%s does not have the batch as its first dimension" % called("output", name))
    return BatchAnalysis(*(_few(reasons) for reasons in (found.mixes, found.writes, found.unknown)))


def _look(function: Any, bound: Optional[Dict[str, Any]], parts: Set[str], found: _Found) -> None:
    """In a block, `bound` is what its placeholders stand for, by uid, and `parts` are more that keep rows apart."""
    search = cntk.logging.graph.depth_first_search
    for each in search(function, lambda node: isinstance(node, cntk.Function), depth=0):
        if not each.is_primitive or each.uid in found.seen:
            continue
        found.seen.add(each.uid)
        name, at = each.op_name, called(each.op_name, each.name or each.uid)
        if each.is_block:
            given = dict((bound or {}).items())
            for placeholder, value in each.block_arguments_mapping:
                given[placeholder.uid] = given.get(value.uid, value)
            _look(each.block_root, given, _PARTS.get(name, set()), found)
        elif name in _TOGETHER:
            found.mixes.append("%s takes the rows together" % at)
        elif name in _RANDOM:
            found.mixes.append("%s is random" % at)
        elif name == "Assign":
            found.writes.append("%s changes what the next run reads" % at)
        elif name not in _APART and name not in parts:
            found.unknown.append("%s is not known" % at)
        elif not all(_has_batch(output) for output in each.outputs):
            given = [(bound or {}).get(value.uid, value) for value in each.inputs]
            if any(not value.is_placeholder and _has_batch(value) for value in given):
                found.mixes.append("%s takes the rows together" % at)
            elif any(value.is_placeholder for value in given):
                found.unknown.append("%s is not followed" % at)


def _has_batch(variable: Any) -> bool:
    return any(axis.name == _BATCH for axis in variable.dynamic_axes)


def _first_is_batch(variable: Any) -> bool:
    axes = variable.dynamic_axes
    return bool(axes) and axes[0].name == _BATCH


def _few(reasons: Sequence[str]) -> Any:
    return tuple(dict.fromkeys(reasons))[:_MAX_REASONS]
