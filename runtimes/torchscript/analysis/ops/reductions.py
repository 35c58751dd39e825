"""Operators along dimensions: reductions, sorting, normalization."""

from typing import Any, List

from runtimes.dataflow import computing
from runtimes.dataflow.arithmetic import OPERATORS, arithmetic, elementwise
from runtimes.dataflow.sizes import fresh
from runtimes.dataflow.values import Value, constant, mixed, propagate, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import Arguments, Items, NotFollowed, rule


def _axes(given: Arguments) -> Any:
    """Return the axes, or None for all."""
    return given.numbers("dim") or None


@rule(
    """sum mean nansum nanmean amax amin all any logsumexp norm var std median nanmedian mode count_nonzero var_mean
    std_mean linalg_vector_norm frobenius_norm aminmax kthvalue"""
)
def reduce(call: Call) -> Any:
    given, value = Arguments(call), call[0]
    if isinstance(value, Items):
        if value.tainted or value.has_rows or value.counts_rows:
            raise ValueError("a list")
        return constant([])
    axes = _axes(given)
    if axes is None and call.node.operator in ("kthvalue", "mode"):
        axes = [-1]
    keep = bool(given.number("keepdim", given.number("keep_dim", False)))
    found = computing.reduce(call.at, value, axes, keep)
    return [found] * len(call.node.outputs)


@rule("prod")
def product(call: Call) -> Any:
    value = call[0]
    if value.contents is not None and len(value.dims or ()) == 1:
        total = 1  # type: Any
        for element in value.contents:
            total = OPERATORS["multiply"](total, element)
        return constant([], [total])
    return reduce(call)


@rule("max min")
def extreme(call: Call) -> Any:
    given = Arguments(call)
    if "other" in given or "b" in given:
        name = "maximum" if call.node.operator == "max" else "minimum"
        return arithmetic(call.at, OPERATORS[name], call[0], call[1])
    return reduce(call)


@rule("argmax argmin")
def arg_max(call: Call) -> Value:
    given = Arguments(call)
    return computing.reduce(call.at, call[0], _axes(given), bool(given.number("keepdim", False)), "compares")


@rule("cumsum cumprod logcumsumexp cummax cummin")
def cumulative(call: Call) -> Any:
    found = computing.along(call.at, call[0], [Arguments(call).number("dim")], "sums over")
    return [found] * len(call.node.outputs)


@rule("softmax log_softmax _softmax _log_softmax softmin _safe_softmax")
def softmax(call: Call) -> Value:
    return computing.along(call.at, call[0], [Arguments(call).number("dim")], "normalizes over")


@rule("sort argsort msort")
def sort(call: Call) -> Any:
    axis = 0 if call.node.operator == "msort" else Arguments(call).number("dim", -1)
    return [computing.along(call.at, call[0], [axis], "sorts")] * len(call.node.outputs)


@rule("topk")
def top_k(call: Call) -> Any:
    given = Arguments(call)
    count = given["k"]
    if count.tainted:
        return [propagate(call.present)] * 2
    number = count.contents[0] if count.contents else None
    return [computing.along(call.at, call[0], [given.number("dim", -1)], "sorts", number)] * 2


@rule("layer_norm native_layer_norm rms_norm _fused_rms_norm")
def layer_norm(call: Call) -> Any:
    given, value, outputs = Arguments(call), call[0], len(call.node.outputs)
    sizes = given["normalized_shape"]
    count = (sizes.dims or (None,))[0]
    if value.dims is None or not isinstance(count, int) or sizes.tainted:
        raise NotFollowed("normalized_shape")
    over = range(len(value.dims) - count, len(value.dims))
    result = computing.along(call.at, value, over, "normalizes over")
    result = elementwise(call.at, result, *given.of("weight bias"))
    return [result] + [computing.reduce(call.at, value, over, True)] * (outputs - 1)


@rule("group_norm native_group_norm instance_norm")
def group_norm(call: Call) -> Any:
    given, value, outputs = Arguments(call), call[0], len(call.node.outputs)
    wrong = call.not_constant(given.of("weight bias running_mean running_var"))
    if wrong is not None:
        return [wrong] * outputs
    if value.dims is None:
        raise NotFollowed("input")
    if call.node.operator == "instance_norm" and "running_mean" in given:
        if given.number("use_input_stats") is not True:
            return elementwise(call.at, value) if value.axis != 1 else unsure("%s is not followed" % call.at)
        call.walk.writes.append("instance_norm keeps mean and variance")
    if "N" in given and given["N"].contents != (value.dims[0],):
        return [unsure("%s allows one number of rows only" % call.at, [value])] * outputs
    over = range(1 if call.node.operator != "instance_norm" else 2, len(value.dims))
    result = computing.along(call.at, value, over, "normalizes over")
    if result.axis == 1:
        return [unsure("%s has the rows in an unusual dimension" % call.at)] * outputs
    statistic = computing.reduce(call.at, result, range(2, len(value.dims)), False)
    return [result] + [statistic] * (outputs - 1)


@rule(
    """batch_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm
    _batch_norm_impl_index _native_batch_norm_legit_functional _batch_norm_with_update _batch_norm_no_update
    quantized::batch_norm2d quantized::batch_norm quantized::batch_norm2d_relu"""
)
def batch_norm(call: Call) -> Any:
    given, value, outputs = Arguments(call), call[0], len(call.node.outputs)
    if "training" in (call.attribute("names") or ()):
        # Without a running mean, it uses that of the batch.
        if given.number("training") is not False or "running_mean" not in given:
            if "running_mean" in given:
                call.walk.writes.append("batch_norm in training mode keeps mean and variance")
            reason = "%s in training mode takes mean and variance of all rows" % call.at
            return [mixed(reason, call.present)] * outputs
    elif call.node.operator not in ("_native_batch_norm_legit_no_training", "_batch_norm_no_update") and not (
        call.node.operator.startswith("quantized::")
    ):
        raise NotFollowed("training")
    wrong = call.not_constant(call.inputs[1:])
    if wrong is not None:
        return [wrong] * outputs
    if value.axis == 1 or (value.axis is None and repeats(value)):
        return [unsure("%s has the rows in an unusual dimension" % call.at)] * outputs
    others: List[Value] = [constant([fresh()])] * (outputs - 1)
    return [elementwise(call.at, value)] + others
