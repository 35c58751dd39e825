"""Shapes, and operators that use them."""

from runtimes.dataflow import indexing, shaping
from runtimes.dataflow.sizes import times
from runtimes.dataflow.values import Value, constant, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule("Shape")
def shape(call: Call) -> Value:
    return shaping.shape_of(call[0], call.attribute("start"), call.attribute("end"))


@rule("Size")
def size(call: Call) -> Value:
    dims = call[0].dims
    return constant([], [times(*dims)]) if dims is not None else shaping.shape_of(call[0])._replace(dims=())


@rule("Reshape")
def reshape(call: Call) -> Value:
    return shaping.reshape(call.at, call[0], call[1], not call.attribute("allowzero", 0))


@rule("Flatten")
def flatten(call: Call) -> Value:
    return shaping.flatten(call.at, call[0], call.attribute("axis", 1))


@rule("Transpose")
def transpose(call: Call) -> Value:
    return shaping.transpose(call.at, call[0], call.attribute("perm"))


@rule("Squeeze", "Unsqueeze")
def squeeze(call: Call) -> Value:
    return shaping.squeeze_or_unsqueeze(call.at, call.node.operator, call[0], call.list_of("axes", 1))


@rule("Expand")
def expand(call: Call) -> Value:
    return shaping.expand(call.at, call[0], call[1])


@rule("Tile")
def tile(call: Call) -> Value:
    return shaping.tile(call.at, call[0], call[1])


@rule("ConstantOfShape")
def constant_of_shape(call: Call) -> Value:
    result = shaping.fill_shape(call[0])
    fill = call.attribute("value")
    count = times(*(result.dims or ())) if result.dims is not None and not result.tainted else None
    if isinstance(count, int) and count <= 64:
        number = fill.contents[0] if fill is not None and fill.contents else 0.0 if fill is None else None
        return constant(result.dims, [number] * count)
    return result


@rule("Range")
def sequence(call: Call) -> Value:
    return indexing.sequence(call.at, call[0], call[1], call[2])


@rule("EyeLike")
def eye(call: Call) -> Value:
    value = call[0]
    if value.has_rows or value.tainted or repeats(value):
        return unsure("%s numbers the rows" % call.at, call.present)
    return constant(value.dims)


@rule("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix")
def made(call: Call) -> Value:
    wrong = call.not_constant(call.present)
    return wrong if wrong is not None else constant()
