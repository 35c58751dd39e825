"""Operators that count values, are random, or use all rows at once."""

from typing import Any

from runtimes.dataflow import computing
from runtimes.dataflow.sizes import fresh
from runtimes.dataflow.values import mixed, propagate, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule(
    """nonzero nonzero_numpy argwhere masked_select unique unique_consecutive unique_dim _unique _unique2
    torchvision::nms torchvision::_batched_nms bincount histc"""
)
def counted(call: Call) -> Any:
    dims = [fresh(), fresh()] if call.node.operator in ("nonzero", "argwhere") else None
    return computing.found_in_all(call.at, call.present, len(call.node.outputs), dims)


@rule(
    """rand rand_like randn randn_like randint randint_like randperm normal bernoulli multinomial uniform exponential
    log_normal geometric cauchy random poisson rrelu_with_noise"""
)
def random(call: Call) -> Any:
    return [mixed("%s is random" % call.at, call.present)] * len(call.node.outputs)


@rule("quantized::linear_dynamic quantized::linear_relu_dynamic")
def dynamic(call: Call) -> Any:
    count = len(call.node.outputs)
    if call[0].tainted:
        return [propagate(call.present)] * count
    if call[0].has_rows:
        return [mixed("%s takes one scale from all rows" % call.at)] * count
    return [unsure("%s is not followed" % call.at, call.present)] * count
