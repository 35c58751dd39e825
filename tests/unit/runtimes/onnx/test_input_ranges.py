"""Ranges of inputs: read from graphs, and used by the trial."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.export.cases import generated
from gateway.export.draws import RANGES
from runtimes import id_ranges
from runtimes.contract import InputRange, InvalidInput, Model, Signature, TensorSpec
from runtimes.dataflow import ranges as dataflow_ranges
from runtimes.dataflow.ranges import Ranges
from runtimes.onnx.analysis.file import of_bytes
from runtimes.onnx.analysis.ranges import input_ranges
from runtimes.worker import trial

WORDS = np.zeros((30522, 2), np.float32)


def node(operator: str, inputs: str, outputs: str, domain: str = "", **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), outputs.split(), domain=domain, **attributes)


def ranges(*nodes: Any, kind: int = TensorProto.INT64, functions: Any = (), **constants: Any) -> dict[str, InputRange]:
    """Return the input ranges of a model with the inputs "x" and "z"."""
    inputs = [helper.make_tensor_value_info(name, kind, ["n", 3]) for name in "xz"]
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=[*opsets, helper.make_opsetid("own", 1)], functions=functions)
    return input_ranges(of_bytes(model.SerializeToString()))


@pytest.mark.parametrize(
    "before",
    [
        [],
        [node("Cast", "x", "ids", to=TensorProto.INT32)],
        [node("Unsqueeze", "x axis", "a"), node("Reshape", "a all", "b"), node("Identity", "b", "ids")],
    ],
)
def test_ids_are_rows_of_their_table(before: list[Any]) -> None:
    found = ranges(*before, node("Gather", f"words {'ids' if before else 'x'}", "y"), words=WORDS, axis=[1], all=[-1])
    assert found == {"x": InputRange(0, 30521, rows=True)}


def test_a_table_may_be_stored_in_eight_bits_or_lie_in_a_node() -> None:
    stored = node("DequantizeLinear", "words scale", "w")
    gather = node("Gather", "w x", "y", axis=1)
    assert ranges(stored, gather, words=np.zeros((2, 77), "i1"), scale=np.float32(1)) == {"x": InputRange(0, 76, True)}
    inside = node("Constant", "", "w", value=numpy_helper.from_array(np.zeros((2, 77), "f4")))
    assert ranges(inside, gather) == {"x": InputRange(0, 76, True)}


def test_ids_of_several_tables_are_in_all_of_them() -> None:
    both = [node("Gather", "words x", "a"), node("Add", "x two", "s"), node("Gather", "places s", "b")]
    found = ranges(*both, words=WORDS, places=np.zeros((512, 2), "f4"), two=np.array(2))
    assert found == {"x": InputRange(0, 509, True, tables_differ=True)}
    assert id_ranges.table_sizes(found) == {}, "each column may have a table of its own, so the model is asked"


def test_ids_of_equal_tables_are_those_of_one() -> None:
    found = ranges(node("Gather", "words x", "a"), node("Gather", "other x", "b"), words=WORDS, other=WORDS)
    assert id_ranges.table_sizes(found) == {"x": 30522}


def test_bert_in_one_node() -> None:
    fused = node("EmbedLayerNormalization", "x z words places kinds gain bias", "y m", "com.microsoft")
    kinds = np.zeros((2, 2), "f4")
    assert ranges(fused, words=WORDS, places=WORDS, kinds=kinds) == {
        "x": InputRange(0, 30521, True), "z": InputRange(0, 1, True),
    }  # fmt: skip


def test_limits_are_followed_through_sums_and_products() -> None:
    scaled = [node("Div", "x d", "a"), node("Sub", "a mean", "b"), node("Mul", "b gain", "c")]
    clipped = [node("Clip", "c low high", "y")]
    given = {"d": np.float32(255), "mean": np.float32(0.5), "gain": np.float32(2)}
    found = ranges(*scaled, *clipped, kind=1, low=np.float32(-1), high=np.float32(1), **given)["x"]
    assert (found.rows, found.low, found.high) == (False, pytest.approx(0), pytest.approx(255))
    mirrored = [node("Sub", "one x", "a"), node("Clip", "a low high", "y")]
    found = ranges(*mirrored, kind=1, one=np.float32(1), low=np.float32(0), high=np.float32(6))["x"]
    assert found == InputRange(-5, 1)


def test_buckets_of_relative_positions() -> None:
    """A clip comes before the table, so values outside the range are clipped and not refused."""
    nodes = [node("Div", "x four", "a"), node("Add", "a twenty", "b"), node("Clip", "b low high", "c")]
    nodes.append(node("Gather", "words c", "y"))
    constants = {"four": np.array(4), "twenty": np.array(20), "low": np.array(0), "high": np.array(39)}
    assert ranges(*nodes, words=np.zeros((40, 4), "f4"), **constants) == {"x": InputRange(-80, 76)}


def test_limits_may_be_two_operators_and_a_table_lie_in_a_function() -> None:
    cut = [node("Max", "x low", "a"), node("Min", "high a", "y")]
    assert ranges(*cut, kind=1, low=np.float32(-2), high=np.float32(3)) == {"x": InputRange(-2, 3)}
    assert ranges(*cut[:1], node("Max", "high a", "y"), kind=1, low=np.float32(-2), high=np.float32(3)) == {}
    inside = helper.make_function(
        "own", "LookUp", ["t", "i"], ["o"], [node("Gather", "t i", "o")], [helper.make_opsetid("", 18)]
    )
    assert ranges(node("LookUp", "words x", "y", "own"), functions=[inside], words=WORDS) == {
        "x": InputRange(0, 30521, rows=True)
    }


def test_a_number_that_is_cut_off_at_one_end_is_a_row_at_the_other() -> None:
    """A padding id of -1 counts as the first row."""
    nodes = [node("Max", "x zero", "a"), node("Gather", "words a", "y")]
    assert ranges(*nodes, words=WORDS, zero=np.array(0)) == {"x": InputRange(0, 30521, rows=True)}


def test_ids_below_zero_that_are_counted_from_the_end_of_the_table() -> None:
    """Keras 3 writes each embedding this way."""
    nodes = [node("Less", "x zero", "below"), node("Add", "x all", "counted"), node("Where", "below counted x", "ids")]
    constants = {"words": WORDS, "zero": np.array(0), "all": np.array(30522)}
    assert ranges(*nodes, node("Gather", "words ids", "y"), **constants) == {"x": InputRange(0, 30521, rows=True)}
    of_two = [node("Less", "x zero", "below"), node("Where", "below x z", "ids"), node("Gather", "words ids", "y")]
    assert ranges(*of_two, words=WORDS, zero=np.array(0)) == {}


def test_functions_that_call_each_other_in_very_many_ways_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "F0", ["t", "i"], ["o"], [node("Gather", "t i", "o")], opsets)]
    for depth in range(1, 16):
        twice = [node(f"F{depth - 1}", "t i", each, "own") for each in "ab"]
        functions.append(helper.make_function("own", f"F{depth}", ["t", "i"], ["a"], twice, opsets))
    seen = []
    monkeypatch.setattr(Ranges, "picks", lambda ranges, name, size: seen.append(name))
    monkeypatch.setattr(dataflow_ranges, "_MAX_NODES", 50)
    ranges(node("F15", "words x", "y", "own"), functions=functions, words=WORDS)
    assert 0 < len(seen) <= 50


def test_quantized_and_one_hot() -> None:
    found = ranges(node("QuantizeLinear", "x s p", "y"), kind=1, s=np.float32(0.5), p=np.uint8(128))
    assert found == {"x": InputRange(-128, 63.5)}
    assert ranges(node("OneHot", "x depth values", "y"), depth=np.array(10), values=[0, 1]) == {"x": InputRange(0, 9)}


def test_what_is_no_limit_is_none() -> None:
    open_end = np.float32(np.finfo(np.float32).max)
    assert ranges(node("Clip", "x zero top", "y"), kind=1, zero=np.float32(0), top=open_end) == {}
    assert ranges(node("Clip", "x  top", "y"), kind=1, top=np.float32(6)) == {}
    assert ranges(node("Gather", "z x", "y")) == {}
    several = node("Mul", "x each", "a"), node("Clip", "a low high", "y")
    assert ranges(*several, kind=1, each=np.float32([1, 2, 3]), low=np.float32(0), high=np.float32(1)) == {}


def test_generated_inputs_reach_both_ends_of_a_table_and_go_beyond_limits() -> None:
    specs = [TensorSpec("ids", "INT64", (-1, 9)), TensorSpec("x", "FP32", (-1, 9)), TensorSpec("hot", "INT32", (-1, 9))]
    known = {"ids": InputRange(0, 99999, True), "x": InputRange(-3, 5), "hot": InputRange(0, 9)}
    cases = generated(specs, {spec.name: (1, 9) for spec in specs}, True, ranges=known)
    chosen = [case for case in cases if case.name.startswith(RANGES.name)]
    assert [case.has_unusual_ids for case in chosen] == [False, False], "what a graph says means something to a model"
    ids, x, hot = (np.concatenate([case.inputs[name].ravel() for case in chosen]) for name in ("ids", "x", "hot"))
    assert (ids.min(), ids.max()) == (0, 99999)
    assert (x.min(), x.max()) == (-4, 6)
    assert (hot.min(), hot.max()) == (-1, 10)
    assert not [case for case in generated(specs, {spec.name: (1, 9) for spec in specs}, True) if case.in_range]


def test_ids_given_as_floats_are_whole() -> None:
    drawn = id_ranges.sample_range(InputRange(0, 7, True), np.linspace(0, 1, 100), np.dtype("f4"))
    assert set(drawn.tolist()) == set(range(8))
    assert id_ranges.wrap_ids({"x": np.array([-0.5, 8.5], "f4")}, {"x": 8})["x"].tolist() == [7, 0]


class LookedUp(Model):
    """A table that has 30,522 rows, according to its graph. Rows from 1000 on are summed over the whole batch."""

    def __init__(self, says: Any) -> None:
        shape = TensorSpec("ids", "INT64", (-1, 4)), TensorSpec("y", "FP32", (-1, 4))
        self.signatures = {"s": Signature(shape[:1], shape[1:])}
        self.says, self.largest = says, 0

    def input_ranges(self, signature: str) -> dict[str, InputRange]:
        if isinstance(self.says, Exception):
            raise self.says
        return {"ids": InputRange(0, self.says - 1, True)} if self.says else {}

    def infer(self, inputs: Any, outputs: Any, signature: str) -> Any:
        ids = inputs["ids"]
        if ids.max() >= 30522 or ids.min() < 0:
            raise InvalidInput("out of the table")
        self.largest = max(self.largest, int(ids.max()))
        return {"y": np.where(ids > 1000, ids.sum(), ids).astype(np.float32)}


def test_a_trial_reaches_the_last_row_that_the_graph_tells_of() -> None:
    model = LookedUp(30522)
    reason, _ = trial.run(model, "s", 8)
    assert (reason, model.largest) == ("trial", 30521)
    on_card = LookedUp(30522)
    trial.run(on_card, "s", 8, on_card=True)
    assert on_card.largest <= 1, "an index beyond a table would end the card's process"


@pytest.mark.parametrize("says", [10**6, 0, ValueError("no graph")])
def test_a_graph_that_says_too_much_or_nothing_costs_no_trial(says: Any) -> None:
    model = LookedUp(says)
    assert trial.run(model, "s", 8) == ("", "")
    assert model.largest > 500
