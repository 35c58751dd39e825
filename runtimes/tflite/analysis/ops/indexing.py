"""Operators that slice, gather, scatter, concatenate or pad."""

from typing import Any, List, Optional

from runtimes.dataflow import computing, indexing, shaping
from runtimes.dataflow.arithmetic import OPERATORS
from runtimes.dataflow.shaping import normalize_axis
from runtimes.dataflow.sizes import ROWS, Size, fresh, over
from runtimes.dataflow.values import Value, constant, mixed, propagate, repeats, unsure, without_contents
from runtimes.dataflow.walk import Call

from ..operators import rule

_END = (1 << 31) - 1


@rule("CONCATENATION")
def concat(call: Call) -> Value:
    return indexing.concat(call.at, call.present, call.attribute("Axis", 0))


@rule("PACK")
def pack(call: Call) -> Value:
    axis = call.attribute("Axis", 0)
    return indexing.concat(call.at, [shaping.unsqueeze(call.at, each, [axis]) for each in call.present], axis)


@rule("UNPACK")
def unpack(call: Call) -> Any:
    axis = call.attribute("Axis", 0)
    parts = indexing.split(call.at, call[0], axis, [1] * len(call.node.outputs))
    return [shaping.squeeze(call.at, part, [axis]) for part in parts]


@rule("SPLIT")
def split(call: Call) -> Any:
    axis, value, count = call.list_of("Axis", 0), call[1], len(call.node.outputs)
    if not isinstance(axis, list) or value.dims is None:
        return [unsure("%s is not followed" % call.at, call.present)] * count
    share = over(value.dims[normalize_axis(axis[0], len(value.dims))], count)
    return indexing.split(call.at, value, axis[0], [share] * count)


@rule("SPLIT_V")
def split_v(call: Call) -> Any:
    value, axis, count = call[0], call.list_of("Axis", 2), len(call.node.outputs)
    parts = call.list_of("Sizes", 1)
    if not isinstance(axis, list) or not isinstance(parts, list) or value.dims is None or len(parts) != count:
        return [unsure("%s is not followed" % call.at, call.present)] * count
    whole = value.dims[normalize_axis(axis[0], len(value.dims))]
    if -1 in parts:
        known = sum(part for part in parts if part != -1) if all(isinstance(part, int) for part in parts) else None
        rest = whole - known if isinstance(whole, int) and known is not None else None
        parts = [rest if part == -1 else part for part in parts]
    return indexing.split(call.at, value, axis[0], parts)


def _bounds(call: Call, value: Value, bounds: List[Value]) -> Optional[Value]:
    """Return the result if the bounds of a slice are not known or depend on rows; None if they can be used."""
    if value.tainted or any(bound.tainted for bound in bounds):
        return propagate([value] + bounds)
    if any(bound.has_rows for bound in bounds):
        return mixed("%s slices where values say" % call.at)
    if value.dims is None or any(bound.contents is None for bound in bounds):
        if value.has_rows or repeats(value) or any(repeats(bound) for bound in bounds):
            return unsure("%s has bounds that are not followed" % call.at)
        return constant(None if value.dims is None else [fresh() for _ in value.dims])
    return None


@rule("SLICE")
def take_slice(call: Call) -> Value:
    value, begins, counts = call[0], call[1], call[2]
    wrong = _bounds(call, value, [begins, counts])
    if wrong is not None:
        return wrong
    for axis, (begin, count) in enumerate(zip(begins.contents or (), counts.contents or ())):
        if count == -1:
            end = _END  # type: Any
        elif begin is None or count is None:
            end = None
        else:
            end = OPERATORS["add"](begin, count)
        value = indexing.take_slice(call.at, value, axis, begin, end, 1)
    return value


@rule("STRIDED_SLICE")
def strided_slice(call: Call) -> Value:
    value, bounds = call[0], [call[1], call[2], call[3]]
    count = len(bounds[2].contents) if bounds[2].contents is not None else None
    if count is not None and not any(bound.tainted or bound.has_rows for bound in bounds):
        # Not even the size of a computed bound may be known, but masks can make its values irrelevant.
        bounds = [
            bound if bound.contents is not None or repeats(bound) else constant([count], [None] * count)
            for bound in bounds
        ]
    wrong = _bounds(call, value, bounds)
    if call.attribute("Offset", False):  # ends are relative to begins
        return unsure("%s is not followed" % call.at, call.present)
    if wrong is not None or value.dims is None:
        return wrong if wrong is not None and wrong.tainted else constant()
    masks = {
        name: call.attribute(name, 0)
        for name in ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask")
    }
    begins, ends, steps = (list(bound.contents or ()) for bound in bounds)
    removed, added = [], []  # type: List[int], List[int]
    axis = 0
    for index, step in enumerate(steps):
        bit = 1 << index
        if masks["EllipsisMask"] & bit:
            rest = sum(not masks["NewAxisMask"] >> later & 1 for later in range(index + 1, len(steps)))
            axis = len(value.dims) - rest
        elif masks["NewAxisMask"] & bit:
            added.append(axis)
        elif masks["ShrinkAxisMask"] & bit:
            if step != 1 or masks["BeginMask"] & bit:
                # With BeginMask, LiteRT selects the first index, unlike TensorFlow. With a negative step, it reads
                # outside the tensor.
                return unsure("%s selects one index in a way that is not followed" % call.at, [value])
            begin = begins[index]
            end = _END if begin == -1 else begin + 1 if isinstance(begin, int) else None
            value = indexing.take_slice(call.at, value, axis, begin, end, 1)
            if value.dims is None:
                return value
            if not value.tainted and value.axis != axis:
                value = value._replace(dims=value.dims[:axis] + (1,) + value.dims[axis + 1 :])
            removed.append(axis)
            axis += 1
        else:
            backwards = isinstance(step, int) and step < 0
            begin = (_END if backwards else 0) if masks["BeginMask"] & bit else begins[index]
            end = (-_END if backwards else _END) if masks["EndMask"] & bit else ends[index]
            value = indexing.take_slice(call.at, value, axis, begin, end, step)
            if value.dims is None:
                return value
            axis += 1
    return _reshaped(call, value, removed, added)


def _reshaped(call: Call, value: Value, removed: List[int], added: List[int]) -> Value:
    """Remove and add dimensions, both given by their axes in `value`."""
    if removed and added:
        return unsure("%s is not followed" % call.at, [value])
    if removed:
        return shaping.squeeze(call.at, value, removed)
    return shaping.unsqueeze(call.at, value, [axis + offset for offset, axis in enumerate(added)]) if added else value


@rule("GATHER")
def gather(call: Call) -> Value:
    value, indices, axis = call[0], call[1], call.attribute("Axis", 0)
    batch = call.attribute("BatchDims", 0)
    if not batch:
        return indexing.gather(call.at, value, indices, axis)
    if value.dims is None or indices.dims is None:
        return unsure("%s is not followed" % call.at, call.present)
    batch = batch + len(indices.dims) if batch < 0 else batch
    if normalize_axis(axis, len(value.dims)) != batch:
        return unsure("%s is not followed" % call.at, call.present)
    points = shaping.unsqueeze(call.at, without_contents(call.at, indices), [-1])
    return indexing.gather_nd(call.at, value, points, batch)


@rule("EMBEDDING_LOOKUP")
def embedding(call: Call) -> Value:
    return indexing.gather(call.at, call[1], call[0], 0)


@rule("GATHER_ND")
def gather_nd(call: Call) -> Value:
    return indexing.gather_nd(call.at, call[0], call[1])


@rule("SCATTER_ND", "SPARSE_TO_DENSE", "DYNAMIC_UPDATE_SLICE")
def scatter(call: Call) -> Value:
    if any(value.has_rows or value.tainted or repeats(value) for value in call.present):
        return unsure("%s writes values in a way that is not followed" % call.at, call.present)
    if call.node.operator == "DYNAMIC_UPDATE_SLICE":
        return constant(call[0].dims)
    return shaping.fill_shape(call[2 if call.node.operator == "SCATTER_ND" else 1])


@rule("PAD", "PADV2", "MIRROR_PAD")
def pad(call: Call) -> Value:
    value, amounts = call[0], call[1]
    wrong = call.not_constant([amounts, call.get(2)])
    if wrong is not None:
        return wrong
    pairs = None
    if amounts.contents is not None:
        pairs = list(zip(amounts.contents[::2], amounts.contents[1::2]))
    return indexing.pad(call.at, value, pairs)


@rule("ONE_HOT")
def one_hot(call: Call) -> Value:
    indices, depth = call[0], call[1]
    wrong = call.not_constant(call.inputs[1:])
    if wrong is not None:
        return wrong
    axis = call.attribute("Axis", -1)
    added = shaping.unsqueeze(call.at, without_contents(call.at, indices), [axis])
    if added.tainted or added.dims is None:
        return added
    axis = normalize_axis(axis, len(added.dims))
    size: Size = depth.contents[0] if depth.contents and isinstance(depth.contents[0], int) else fresh()
    return added._replace(dims=added.dims[:axis] + (size,) + added.dims[axis + 1 :])


@rule("REVERSE_V2")
def reverse(call: Call) -> Value:
    axes = call.list_of("Axes", 1)
    if not isinstance(axes, list):
        return unsure("%s has axes that are not followed" % call.at, call.present)
    return computing.along(call.at, call[0], axes, "reverses")


@rule("REVERSE_SEQUENCE")
def reverse_sequence(call: Call) -> Value:
    value, lengths = call[0], call[1]
    if value.tainted or lengths.tainted:
        return propagate(call.present)
    if not any(each.has_rows or repeats(each) for each in (value, lengths)):
        return constant(value.dims)
    if value.axis is not None and value.axis == call.attribute("SeqDim", 0):
        return mixed("%s reverses the rows" % call.at)
    if value.axis != call.attribute("BatchDim", 0) or (value.before, value.after) != (1, 1):
        return unsure("%s is not followed" % call.at)
    if lengths.has_rows and (lengths.before, lengths.after) == (1, 1) or lengths.dims == (ROWS,):
        return value
    return unsure("%s is not followed" % call.at)
