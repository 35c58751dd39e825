"""Fused recurrent layers, matrix functions, parsers, and random operators."""

from typing import Any, List

from runtimes.dataflow import computing
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.shaping import fill_shape
from runtimes.dataflow.sizes import fresh
from runtimes.dataflow.values import Value, constant, mixed, propagate, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import rule


@rule("BlockLSTM", "BlockLSTMV2")
def lstm(call: Call) -> Any:
    """The input is [time, rows, features]; the outputs are the states at all time steps."""
    value, count = call[1], len(call.node.outputs)
    wrong = computing.recurrent(call.at, value, [call[2], call[3]], None, [call[0], *call.present[4:]])
    if wrong is not None or value.dims is None:
        return [wrong or unsure("%s is not followed" % call.at)] * count
    return [rows([value.dims[0], value.dims[1], fresh()], 1, value.before, value.after)] * count


@rule("GRUBlockCell", "LSTMBlockCell")
def cell(call: Call) -> Any:
    states = call.present[:2] if call.node.operator == "GRUBlockCell" else call.present[:3]
    if any(state.rank != 2 for state in states):
        return [unsure("%s is not followed" % call.at, call.present)] * len(call.node.outputs)
    wrong = call.not_constant(call.inputs[len(states) :])
    # A constant state must have one row per row of the batch, which is not known.
    if wrong is None and any(not state.has_rows for state in states):
        wrong = unsure("%s is not followed" % call.at)
    count = len(call.node.outputs)
    return [wrong] * count if wrong is not None else computing.batch_first(call.at, call.present, [2] * count)


_RANKS = {
    "Cholesky": 0, "MatrixInverse": 0, "MatrixExponential": 0, "MatrixLogarithm": 0, "MatrixSquareRoot": 0,
    "MatrixDeterminant": -2, "MatrixDiag": 1, "MatrixDiagPart": -1,
}  # fmt: skip


@rule(*_RANKS)
def matrices(call: Call) -> Value:
    value, operator = call[0], call.node.operator
    min_rank = 2 if operator == "MatrixDiag" else 3
    if value.rank is None or value.rank < min_rank:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, call.present, [value.rank + _RANKS[operator]])[0]


@rule("MatrixBandPart")
def band(call: Call) -> Value:
    wrong = call.not_constant(call.inputs[1:])
    return wrong if wrong is not None else computing.along(call.at, call[0], [-2, -1], "depends on the position in")


@rule("MatrixSolve", "MatrixTriangularSolve")
def solved(call: Call) -> Value:
    one, two = call[0], call[1]
    if one.rank is None or one.rank < 3 or one.rank != two.rank or one.has_rows != two.has_rows:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, call.present, [two.rank])[0]


@rule("ParseExample", "ParseExampleV2")
def examples(call: Call) -> Any:
    """Sparse and ragged outputs contain the values of all rows together; dense outputs have one row per row."""
    text = call[0]
    if text.tainted:
        return [propagate([text])] * len(call.node.outputs)
    if text.rank != 1 or not text.has_rows:
        return [unsure("%s is not followed" % call.at, call.present)] * len(call.node.outputs)
    shapes = call.attribute("dense_shapes")
    results: List[Value] = [unsure("%s has values of all rows in one" % call.at)] * len(call.node.outputs)
    first = 3 * (call.attribute("num_sparse") or 0)
    if call.node.operator == "ParseExample":
        first = 3 * (call.attribute("Nsparse") or 0)
    for index, shape in enumerate(shapes):
        # Values of a dynamic size are padded to the longest of all rows.
        if shape is not None and None not in shape:
            results[first + index] = rows([text.dims[0], *shape], 0, text.before, text.after)  # type: ignore[index]
    return results


@rule("DecodeCSV")
def fields(call: Call) -> Any:
    wrong = call.not_constant(call.inputs[1:])
    return [wrong if wrong is not None else elementwise(call.at, call[0])] * len(call.node.outputs)


@rule("BoostedTreesPredict")
def trees(call: Call) -> Value:
    return computing.batch_first(call.at, call.present[1:], [2])[0]


@rule("StatelessRandomGetAlg", "StatelessRandomGetKey", "StatelessRandomGetKeyCounter")
def generator(call: Call) -> Any:
    wrong = call.not_constant(call.present)
    return [wrong if wrong is not None else constant() for _ in call.node.outputs]


@rule(
    """StatelessMultinomial StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform
    StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt
    StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessTruncatedNormal StatelessTruncatedNormalV2"""
)
def drawn(call: Call) -> Value:
    """The numbers depend only on the seed, but a row's position in the batch determines which of them it gets."""
    if any(value.tainted for value in call.present):
        return propagate(call.present)
    if any(value.has_rows for value in call.present):
        return unsure("%s is not followed" % call.at)
    if any(value.counts_rows for value in call.present):
        return mixed("%s draws by the position in the batch" % call.at)
    return fill_shape(call[0])


@rule(
    """Multinomial ParameterizedTruncatedNormal RandomGamma RandomPoissonV2 RandomShuffle RandomStandardNormal
    RandomUniform RandomUniformInt TruncatedNormal"""
)
def random(call: Call) -> Value:
    """`state` determines whether it certainly runs."""
    return unsure("%s is random" % call.at, call.present)
