"""Matrix products."""

from typing import Any

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.sizes import fresh
from runtimes.dataflow.values import Value, constant, propagate, unsure
from runtimes.dataflow.walk import Call

from ..operators import Arguments, items, rule


@rule("linear")
def linear(call: Call) -> Value:
    given = Arguments(call)
    weight = given["weight"]
    if weight.dims is not None and len(weight.dims) == 2:
        weight = shaping.transpose(call.at, weight)
    product = computing.matmul(call.at, given["input"], weight)
    return elementwise(call.at, product, given["bias"]) if "bias" in given else product


@rule("quantized::linear quantized::linear_relu quantized::linear_dynamic_fp16")
def packed_linear(call: Call) -> Value:
    wrong = call.not_constant(call.inputs[1:])
    if wrong is not None:
        return wrong
    return computing.along(call.at, call[0], [-1], "sums over", None)


@rule("matmul mm bmm mv dot vdot")
def matmul(call: Call) -> Value:
    return computing.matmul(call.at, call[0], call[1])


@rule("addmm baddbmm addmv")
def addmm(call: Call) -> Value:
    return elementwise(call.at, computing.matmul(call.at, call[1], call[2]), call[0])


@rule("einsum")
def einsum(call: Call) -> Value:
    given = Arguments(call)
    return computing.einsum(call.at, given.number("equation"), items(given["tensors"]))


@rule("outer ger")
def outer(call: Call) -> Value:
    return computing.contract(call.at, [(call[0], ["i"]), (call[1], ["j"])], ["i", "j"])


@rule("bilinear")
def bilinear(call: Call) -> Value:
    given = Arguments(call)
    wrong = call.not_constant(given.of("weight bias"))
    if wrong is not None:
        return wrong
    both = elementwise(
        call.at,
        *(computing.along(call.at, value, [-1], "sums over", 1) for value in given.of("input1 input2")),
    )
    return both if both.dims is None else both._replace(dims=both.dims[:-1] + (fresh(),))


@rule("cdist")
def distances(call: Call) -> Any:
    one, two = call[0], call[1]
    if one.tainted or two.tainted:
        return propagate([one, two])
    if two.dims is None or one.dims is None:
        return unsure("%s is not followed" % call.at) if one.has_rows or two.has_rows else constant()
    rank = len(two.dims)
    if rank < 2:
        raise ValueError("no matrix")
    return computing.matmul(call.at, one, shaping.transpose(call.at, two, [*range(rank - 2), rank - 1, rank - 2]))


@rule("cosine_similarity pairwise_distance")
def similarity(call: Call) -> Value:
    one, two = list(call.inputs)[:2]
    both = elementwise(call.at, *(value for value in (one, two) if value is not None))
    given = Arguments(call)
    return computing.reduce(call.at, both, [given.number("dim", -1)], bool(given.number("keepdim", False)))
