"""Operators that slice, gather, concatenate, pad or reorder."""

from typing import Any, List, Optional, Tuple

from runtimes.dataflow import computing, indexing, orders, shaping
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.sizes import Size, over
from runtimes.dataflow.values import Value, as_rows, constant, propagate, repeats, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule, spelled

_END = 1 << 31  # as the end of a slice: beyond the size of any dimension


@rule("Concat", "ConcatV2")
def concat(call: Call) -> Value:
    first = call.node.operator == "Concat"
    axis = call.list_of("axis", 0 if first else len(call.inputs) - 1)
    parts = call.present[1:] if first else call.present[:-1]
    if isinstance(axis, Value):
        return propagate([axis])
    return indexing.concat(call.at, [spelled(part) for part in parts], axis[0])


@rule("Split", "SplitV")
def split(call: Call) -> Any:
    equal = call.node.operator == "Split"
    count = call.attribute("num_split")
    value, axis = call[1 if equal else 0], call.list_of("axis", 0 if equal else 2)
    if isinstance(axis, Value):
        return [propagate([axis, value])] * count
    whole = value.dims[normalize_axis(axis[0], len(value.dims))] if value.dims else None
    parts = [over(whole, count) if whole is not None else None] * count  # type: List[Optional[Size]]
    if not equal:
        sizes = call.list_of("sizes", 1)
        if isinstance(sizes, Value):
            return [propagate([sizes, value])] * count
        parts = _with_the_rest(whole, sizes)
    return indexing.split(call.at, value, axis[0], parts)


def _with_the_rest(whole: Any, sizes: List[Any]) -> List[Optional[Size]]:
    """Replace a size of -1 by what the other sizes leave."""
    known = isinstance(whole, int) and all(isinstance(size, int) for size in sizes)
    rest = whole - sum(size for size in sizes if size >= 0) if known else None
    return [rest if size == -1 else size for size in sizes]


@rule("Slice")
def take_slice(call: Call) -> Value:
    value, begins, lengths = call[0], call[1], call[2]
    if any(each.tainted for each in call.present):
        return propagate(call.present)
    if begins.has_rows or lengths.has_rows:
        return unsure("%s slices where values say" % call.at)
    for axis in range(len(value.dims or ())):
        begin, length = (each.contents[axis] if each.contents else None for each in (begins, lengths))
        end = _END if length == -1 else length if begin == 0 else None
        if isinstance(begin, int) and isinstance(length, int) and length >= 0:
            end = begin + length
        value = indexing.take_slice(call.at, value, axis, begin, end)
    return value._replace(contents=None) if value.dims is None and not value.tainted else value


@rule("StridedSlice")
def strided_slice(call: Call) -> Value:
    """numpy's basic indexing. A bit in each mask says what the element at that position of the index is."""
    value, bounds = call[0], [call[1], call[2], call[3]]
    if value.tainted or any(bound.tainted for bound in bounds):
        return propagate(call.present)
    if any(bound.has_rows for bound in bounds):
        return unsure("%s slices where values say" % call.at)
    count = next((bound.dims[0] for bound in bounds if bound.dims), None)
    if value.dims is None or not isinstance(count, int):
        return unsure("%s is not followed" % call.at) if value.has_rows or repeats(value) else constant()
    masks = [call.attribute(name + "_mask", 0) for name in ("ellipsis", "new_axis", "shrink_axis", "begin", "end")]
    value = spelled(value)
    rank, axis = len(value.dims or ()), 0
    cut = sum(not (masks[0] | masks[1]) >> index & 1 for index in range(count))
    for index in range(count):
        skipped, added, dropped, from_first, to_last = (bool(mask >> index & 1) for mask in masks)
        begin, end, step = (bound.contents[index] if bound.contents else None for bound in bounds)
        if skipped:
            axis += rank - cut
            continue
        if added:
            value = shaping.unsqueeze(call.at, value, [axis])
        elif dropped:
            known = isinstance(begin, int)
            value = indexing.take_slice(call.at, value, axis, begin, (begin + 1 or _END) if known else None)
            value = shaping.squeeze(call.at, value, [axis])
            continue
        else:
            back = isinstance(step, int) and step < 0
            if step is None and (from_first or to_last):
                begin = end = None
            else:
                begin = (-1 if back else 0) if from_first else begin
                end = (-_END if back else _END) if to_last else end
            value = indexing.take_slice(call.at, value, axis, begin, end, step)
        axis += 1
    return value


@rule("Gather", "GatherV2", "ResourceGather")
def gather(call: Call) -> Value:
    value, indices, axis = call[0], call[1], 0
    if call.node.operator == "GatherV2":
        found = call.list_of("axis", 2)
        if isinstance(found, Value):
            return propagate([found, value, indices])
        axis = found[0]
    batch = call.attribute("batch_dims", 0)
    if not batch or value.tainted or indices.tainted:
        return indexing.gather(call.at, value, indices, axis)
    return _gather_in_each(call, value, indices, axis, batch)


def _gather_in_each(call: Call, value: Value, indices: Value, axis: int, batch: int) -> Value:
    if not (value.has_rows or indices.has_rows or repeats(value) or repeats(indices)):
        return constant()
    one, two = as_rows(value), as_rows(indices)
    if one is None or two is None or not one.dims or not two.dims or not one.has_rows:
        return unsure("%s is not followed" % call.at)
    axis, batch = normalize_axis(axis, len(one.dims)), batch + len(two.dims) if batch < 0 else batch
    same = (one.axis, one.before, one.after) == (two.axis, two.before, two.after)
    if not same or one.axis is None or one.axis >= batch or axis < batch:
        return unsure("%s is not followed" % call.at)
    return rows(one.dims[:axis] + two.dims[batch:] + one.dims[axis + 1 :], one.axis, one.before, one.after)


@rule("GatherNd", "ResourceGatherNd")
def gather_nd(call: Call) -> Value:
    return indexing.gather_nd(call.at, call[0], call[1])


@rule("Pad", "PadV2", "MirrorPad")
def pad(call: Call) -> Value:
    value, amounts = call[0], call[1]
    if value.tainted or any(other.tainted for other in call.present):
        return propagate(call.present)
    if amounts.has_rows or repeats(amounts) or any(other.has_rows or repeats(other) for other in call.present[2:]):
        return unsure("%s pads by amounts that are not followed" % call.at)
    contents = spelled(amounts).contents
    pairs: Optional[List[Tuple[Any, Any]]] = list(zip(contents[::2], contents[1::2])) if contents else None
    return indexing.pad(call.at, value, pairs)


@rule("ReverseV2")
def reverse(call: Call) -> Value:
    axes = call.list_of("axis", 1)
    if isinstance(axes, Value):
        return propagate([axes, call[0]])
    return computing.along(call.at, call[0], axes, "reverses")


@rule("ReverseSequence")
def reverse_sequence(call: Call) -> Value:
    return orders.reverse_sequence(call.at, call[0], call[1], call.attribute("seq_dim"), call.attribute("batch_dim", 0))


@rule("Roll")
def roll(call: Call) -> Value:
    axes = call.list_of("axis", 2)
    if isinstance(axes, Value) or call[1].tainted or call[1].has_rows or repeats(call[1]):
        return unsure("%s is not followed" % call.at, call.present)
    return computing.along(call.at, call[0], axes, "shifts")


@rule("Where", "Unique", "UniqueV2", "UniqueWithCounts", "UniqueWithCountsV2")
def counted(call: Call) -> Any:
    return computing.found_in_all(call.at, call.present, len(call.node.outputs))


@rule("NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5")
def suppressed(call: Call) -> Any:
    return computing.found_in_all(call.at, call.present, len(call.node.outputs), does="chooses among")


@rule(
    """RaggedTensorToTensor RaggedTensorToVariant ScatterNd ScatterNdNonAliasingAdd SegmentMax SegmentMean SegmentMin
    SegmentProd SegmentSum SparseFillEmptyRows SparseReduceSum SparseReshape SparseSegmentMean SparseSegmentMeanV2
    SparseSegmentSqrtN SparseSegmentSqrtNV2 SparseSegmentSum SparseSegmentSumV2 SparseTensorDenseMatMul SparseToDense
    TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate UnsortedSegmentMax
    UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum DynamicStitch ParallelDynamicStitch"""
)
def regrouped(call: Call) -> Any:
    """These may or may not restore rows from values that were extracted from them, so nothing is certain."""
    count = len(call.node.outputs)
    if any(value.has_rows or value.tainted or repeats(value) for value in call.present):
        return [unsure("%s moves values to positions that other values determine" % call.at)] * count
    return [constant()] * count
