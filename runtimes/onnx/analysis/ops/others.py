"""Recurrent networks, signals, text, random numbers, and operators that count values."""

from typing import Any, List, Optional

from runtimes.dataflow import computing
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.sizes import ROWS, fresh, has_rows
from runtimes.dataflow.values import Value, mixed, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import RANDOM, rule


@rule("RNN", "LSTM", "GRU")
def recurrent(call: Call) -> Any:
    value, operator = call[0], call.node.operator
    count = 3 if operator == "LSTM" else 2
    if call.attribute("layout", 0) or value.dims is None:
        return [unsure("%s is not followed" % call.at, call.present)] * count
    states = [state for state in (call.get(5), call.get(6) if operator == "LSTM" else None) if state is not None]
    others = [other for other in (call.get(1), call.get(2), call.get(3), call.get(7)) if other is not None]
    wrong = computing.recurrent(call.at, value, states, call.get(4), others)
    if wrong is not None:
        return [wrong] * count
    directions = 2 if call.attribute("direction", "forward") == "bidirectional" else 1
    hidden = call.attribute("hidden_size") or fresh()
    last = rows([directions, value.dims[1], hidden], 1, value.before, value.after)
    return [rows([value.dims[0], directions, value.dims[1], hidden], 2, value.before, value.after), last, last][:count]


@rule("GridSample", "AffineGrid", "Det", "DFT", "STFT", "Attention", "RotaryEmbedding")
def row_by_row(call: Call) -> Any:
    operator, value = call.node.operator, call[0]
    if operator == "Attention":
        ranks: List[Optional[int]] = [value.rank] + [4] * (len(call.node.outputs) - 1)
        if any(other.has_rows != value.has_rows for other in call.present[1:3]):
            return [unsure("%s is not followed" % call.at, call.present)] * len(ranks)
        return computing.batch_first(call.at, call.present, ranks)
    if operator == "AffineGrid":
        sizes = call[1].contents or (None,)
        if sizes[0] == ROWS and not any(map(has_rows, sizes[1:])) and value.axis == 0:
            return rows([ROWS] + [fresh() for _ in sizes[1:]])
        return unsure("%s is not followed" % call.at, call.present)
    if operator == "Det":
        return computing.reduce(call.at, value, [-2, -1], False)
    if operator == "DFT":
        axis = call.list_of("axis", 2) if call.version >= 20 else [call.attribute("axis", 1)]
        known = isinstance(axis, list) or axis is None
        return (
            computing.along(call.at, value, axis or [-2], "transforms", None)
            if known
            else unsure("%s is not followed" % call.at, call.present)
        )
    if operator == "STFT":
        return computing.batch_first(call.at, call.present, [4])[0]
    if operator == "GridSample":
        if value.has_rows != call[1].has_rows:
            return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, call.present, [value.rank])[0]


@rule("RoiAlign", "MaxRoiPool")
def regions(call: Call) -> Value:
    if call[0].has_rows and (call[0].axis == 0):
        return mixed("%s takes regions by the index of an image in the batch" % call.at, call.present)
    return unsure("%s is not followed" % call.at, call.present)


@rule("TfIdfVectorizer")
def tf_idf(call: Call) -> Value:
    if call[0].rank != 2:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, call.present, [2])[0]


@rule("StringSplit")
def string_split(call: Call) -> Any:
    if call[0].has_rows:
        return [mixed("%s pads to the longest of all rows" % call.at, call.present), elementwise(call.at, call[0])]
    return [unsure("%s is not followed" % call.at, call.present)] * 2


@rule("NonZero", "Unique", "NonMaxSuppression")
def counted(call: Call) -> Any:
    dims = [call[0].rank or fresh(), fresh()] if call.node.operator == "NonZero" else None
    return computing.found_in_all(call.at, call.present, len(call.node.outputs), dims)


@rule(*RANDOM)
def random(call: Call) -> Value:
    if call.attribute("seed") is not None:
        call.walk.writes.append("%s advances its generator" % call.at)
    return mixed("%s is random" % call.at, call.present)
