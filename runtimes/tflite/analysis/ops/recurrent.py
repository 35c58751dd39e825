"""Recurrent layers. Their state is zero at the beginning of a run."""

from typing import Any, Sequence

from runtimes.dataflow import computing
from runtimes.dataflow.sizes import fresh
from runtimes.dataflow.values import Value, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


def _layer(call: Call, states: Sequence[int], units: Any, batch: int) -> Value:
    value = call[0]
    """
    states  indices of the inputs that are states
    units   last dimension of the output; None if it is unknown
    batch   dimension of the input that is the batch
    """
    if value.dims is None or any(call.get(index) is None for index in states):
        return unsure("%s is not followed" % call.at, call.present)
    others = [each for index, each in enumerate(call.inputs) if index and index not in states and each is not None]
    wrong = computing.recurrent(call.at, value, [call[index] for index in states], None, others, batch)
    if wrong is not None:
        return wrong
    dims = value.dims[:-1] + (fresh() if units is None else units,)
    return rows(dims, value.axis or 0, value.before, value.after)


def _units(call: Call, index: int) -> Any:
    state = call.get(index)
    return state.dims[-1] if state is not None and state.dims else None


@rule("UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(call: Call) -> Value:
    if call[0].rank != 3:
        return unsure("%s is not followed" % call.at, call.present)
    return _layer(call, [18, 19], _units(call, 18), 1 if call.attribute("TimeMajor", False) else 0)


@rule("UNIDIRECTIONAL_SEQUENCE_RNN")
def rnn(call: Call) -> Value:
    if call[0].rank != 3:
        return unsure("%s is not followed" % call.at, call.present)
    return _layer(call, [4], _units(call, 4), 1 if call.attribute("TimeMajor", False) else 0)


@rule("RNN", "SVDF")
def one_step(call: Call) -> Value:
    if call[0].rank != 2:
        return unsure("%s is not followed" % call.at, call.present)
    weights = call[1 if call.node.operator == "RNN" else 2].dims
    units = weights[0] if weights and call.node.operator == "RNN" else None
    return _layer(call, [4], units, 0)
