"""Recurrent layers."""

from typing import Any, List

from runtimes.dataflow import computing
from runtimes.dataflow.sizes import times
from runtimes.dataflow.values import Value, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule("RNN")
def recurrent(call: Call) -> Any:
    """The input is [time, N, features], the states are [layers, N, features]."""
    value, count = call[0], len(call.node.outputs)
    if value.dims is None or call.attribute("use_sequence_length", False) in (True, 1):
        return [unsure("%s is not followed" % call.at, call.present)] * count
    wrong = computing.recurrent(call.at, value, call.present[2:], None, [call[1]])
    if wrong is not None:
        return [wrong] * count
    hidden, directions = call.attribute("state_size"), 2 if call.attribute("bidirectional", False) in (True, 1) else 1
    width = call.attribute("projection_size") or hidden
    layers = times(call.attribute("num_layers"), directions)
    dims = [value.dims[0], value.dims[1], times(directions, width)]
    results: List[Value] = [rows(dims, 1, value.before, value.after)]
    for size in (width, hidden):
        results.append(rows([layers, value.dims[1], size], 1, value.before, value.after))
    return results[:count]
