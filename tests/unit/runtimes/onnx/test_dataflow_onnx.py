"""The analysis of rows in ONNX graphs. The package `onnx` writes the files, which are not run."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtimes.contract import BatchAnalysis, Signature, TensorSpec
from runtimes.dataflow.values import Value
from runtimes.onnx.analysis.file import of_bytes, of_file
from runtimes.onnx.analysis.read import analyze
from runtimes.protobuf import Malformed

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
W = np.ones((4, 4), np.float32)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def made(
    nodes: list[Any],
    constants: dict[str, Any] | None = None,
    shape: Any = ("n", 3, 4),
    outputs: str = "y",
    **other: Any,
) -> Any:
    """Return a model with an input "x", INT64 inputs (name → sizes), constants, and an output "y" of any shape."""
    inputs = [helper.make_tensor_value_info("x", FLOAT, shape)]
    inputs += [helper.make_tensor_value_info(name, INT64, sizes) for name, sizes in other.items()]
    results = [helper.make_tensor_value_info("y", FLOAT, None)]
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, results, weights)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets)


def read(model: Any) -> BatchAnalysis:
    names = [each.name for each in model.graph.output]
    inputs = tuple(TensorSpec(each.name) for each in model.graph.input)
    return analyze(of_bytes(model.SerializeToString()), Signature(inputs, tuple(map(TensorSpec, names))))


def test_rows_that_stay_apart() -> None:
    attention = [
        node("Shape", "x", "sizes"),
        node("Gather", "sizes zero", "n"),
        node("Unsqueeze", "n zeros", "n1"),
        node("Concat", "n1 open heads", "split", axis=0),
        node("MatMul", "x w", "q"),
        node("Reshape", "q split", "q4"),
        node("Transpose", "q4", "qt", perm=[0, 2, 1, 3]),
        node("Transpose", "q4", "kt", perm=[0, 2, 3, 1]),
        node("MatMul", "qt kt", "scores"),
        node("Softmax", "scores", "weights"),
        node("MatMul", "weights qt", "mixed"),
        node("Transpose", "mixed", "back", perm=[0, 2, 1, 3]),
        node("Reshape", "back shape", "y"),
    ]
    constants = {"zero": np.int64(0), "zeros": [0], "open": [-1], "heads": [2, 2], "w": W, "shape": [0, 0, 4]}
    assert read(made(attention, constants)).independent


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Flatten", "x", "f"), node("Gemm", "f big", "y")],
        [node("Reshape", "x fold", "f"), node("MatMul", "f w", "g"), node("Reshape", "g unfold", "y")],
        [node("Concat", "x x", "twice", axis=0), node("Split", "twice", "y z", num_outputs=2)],
        [node("Transpose", "x", "t", perm=[1, 0, 2]), node("Softmax", "t", "s", axis=0),
         node("Transpose", "s", "y", perm=[1, 0, 2])],
        [node("Transpose", "x", "t", perm=[1, 0, 2]), node("LSTM", "t lw lr", "o h c", hidden_size=2),
         node("Transpose", "h", "hh", perm=[1, 0, 2]), node("Flatten", "hh", "y")],
        [node("ReduceMean", "x one", "m"), node("Sub", "x m", "y")],
        [node("Einsum", "x x", "y", equation="nij,nkj->nik")],
        [node("Shape", "x", "s", start=0, end=1), node("ConstantOfShape", "s", "z"), node("Unsqueeze", "z ones", "zz"),
         node("Add", "x zz", "y")],
    ],
)  # fmt: skip
def test_other_ways_in_which_rows_stay_apart(nodes: Any) -> None:
    constants = {
        "w": W, "big": np.ones((12, 5), np.float32), "fold": [-1, 4], "unfold": [-1, 3, 4], "one": [1], "ones": [1, 2],
        "lw": np.ones((1, 8, 4), np.float32), "lr": np.ones((1, 8, 2), np.float32),
    }  # fmt: skip
    found = read(made(nodes, constants))
    assert found == BatchAnalysis()


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("ReduceMax", "x zeros", "m"), node("Div", "x m", "y")], "ReduceMax 'm' reduces over the rows"),
        ([node("ReduceMean", "x", "m"), node("Sub", "x m", "y")], "ReduceMean 'm'"),
        ([node("ReduceSum", "x minus3", "m"), node("Sub", "x m", "y")], "ReduceSum 'm'"),
        ([node("Softmax", "x", "y", axis=0)], "Softmax 'y' normalizes over the rows"),
        ([node("CumSum", "x zero", "y")], "CumSum"),
        ([node("TopK", "x one", "y i", axis=0)], "TopK"),
        ([node("NonZero", "x", "y")], "NonZero"),
        ([node("Unique", "x", "y")], "Unique"),
        ([node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z", "y")], "one scale"),
        ([node("Flatten", "x", "f"), node("Transpose", "f", "t"), node("MatMul", "f t", "y")], "pairs each row"),
        ([node("ReduceSum", "x inner", "m", keepdims=0), node("Unsqueeze", "m one", "c"), node("Sub", "m c", "y")],
         "pairs each row"),
        ([node("Concat", "x row", "y", axis=0)], "other values among the rows"),
        ([node("Pad", "x pads", "y")], "other values among the rows"),
        ([node("Slice", "x zeros one zeros", "y")], "some of the rows"),
        ([node("Slice", "x minus1 far zeros minus1", "y")], "some of the rows"),
        ([node("Gather", "x zero", "y")], "particular rows"),
        ([node("Squeeze", "x", "y")], "drops the dimension"),
        ([node("Reshape", "x flat", "y")], "output 'y' has the batch along dimension 1"),
        ([node("Transpose", "x", "y", perm=[1, 0, 2])], "output 'y' has the batch along dimension 1"),
        ([node("Reshape", "x fold", "y")], "output 'y' has several rows"),
        ([node("Identity", "row", "y")], "output 'y' has 1 rows whatever"),
        ([node("RandomNormalLike", "x", "y")], "is random"),
        ([node("Dropout", "x half yes", "y")], "is random"),
        ([node("LSTM", "x lw lr", "y h c", hidden_size=2)], "from row to row"),
        ([node("ReduceMax", "x", "m", keepdims=0), node("Greater", "m nought", "b"),
          node("If", "b", "y", then_branch=helper.make_graph([node("Identity", "x", "a")], "t", [],
               [helper.make_tensor_value_info("a", FLOAT, None)]),
               else_branch=helper.make_graph([node("Neg", "x", "b2")], "e", [],
               [helper.make_tensor_value_info("b2", FLOAT, None)]))], "If 'y' depends on values"),
    ],
)  # fmt: skip
def test_what_mixes_rows_is_named(nodes: Any, reason: str) -> None:
    constants = {
        "zeros": [0], "one": [1], "zero": np.int64(0), "minus3": [-3], "inner": [1, 2], "far": [-9999], "minus1": [-1],
        "row": np.ones((1, 3, 4), np.float32), "pads": [0, 0, 0, 1, 0, 0], "flat": [1, -1], "fold": [-1, 4],
        "half": np.float32(0.5), "yes": np.array(True), "nought": np.float32(0),
        "lw": np.ones((1, 8, 4), np.float32), "lr": np.ones((1, 8, 2), np.float32),
    }  # fmt: skip
    found = read(made(nodes, constants))
    assert any(reason in each for each in found.mixes), found


def test_the_longest_of_the_batch() -> None:
    nodes = [node("ReduceMax", "lengths", "most", keepdims=1), node("Slice", "x zeros most one", "y")]
    found = read(made(nodes, {"zeros": [0], "one": [1]}, ("n", "t", 4), lengths=["n"]))
    assert found.mixes == ("ReduceMax 'most' reduces over the rows",)


def test_what_is_not_followed_is_no_finding() -> None:
    own = helper.make_node("Own", ["x"], ["y"], domain="com.someone")
    found = read(made([own]))
    assert not found.mixes
    assert found.unknown == ("Own 'y' is not known",)


def test_what_no_output_needs_may_still_fail() -> None:
    nodes = [node("ReduceSum", "x one", "m", keepdims=0), node("Sub", "x m", "z"), node("Relu", "x", "y")]
    found = read(made(nodes, {"one": [1]}))
    assert not found.mixes
    assert found.unknown == ("Sub 'z' pairs each row with every other, though no output needs it",)


def test_an_input_without_rows_is_not_known() -> None:
    found = read(made([node("Identity", "x", "y")], shape=(1, 4)))
    assert found.unknown == ("input 'x' has a fixed first dimension",)


def test_a_loop_is_followed() -> None:
    body = helper.make_graph(
        [node("Add", "h x", "next"), node("Identity", "go", "on")],
        "body",
        [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", INT64), ("go", TensorProto.BOOL))]
        + [helper.make_tensor_value_info("h", FLOAT, None)],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("next", FLOAT, None)],
    )
    loop = node("Loop", "five yes x", "y", body=body)
    assert read(made([loop], {"five": np.int64(5), "yes": np.array(True)})).independent
    count = [node("ReduceMax", "lengths", "most", keepdims=0), node("Loop", "most yes x", "y", body=body)]
    found = read(made(count, {"yes": np.array(True)}, lengths=["n"]))
    assert any("Loop 'y' has a number of iterations that depends on values" in reason for reason in found.mixes)


def test_a_branch_or_a_loop_that_gives_the_number_of_rows_is_no_constant() -> None:
    one, two = (helper.make_tensor_value_info(name, INT64, None) for name in ("a", "b"))
    then = helper.make_graph([node("Identity", "n", "a")], "t", [], [one])
    otherwise = helper.make_graph([node("Identity", "ones", "b")], "e", [], [two])
    chosen = node("If", "yes", "s", then_branch=then, else_branch=otherwise)
    body = helper.make_graph(
        [node("Identity", "n", "next"), node("Identity", "go", "on")],
        "body",
        [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", INT64), ("go", TensorProto.BOOL))]
        + [helper.make_tensor_value_info("h", INT64, None)],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("next", INT64, None)],
    )
    for step in (chosen, node("Loop", "two yes ones", "s", body=body)):
        nodes = [node("Shape", "x", "n", start=0, end=1), node("ReduceMax", "flags", "yes", keepdims=0), step]
        nodes += [node("Cast", "s", "f", to=FLOAT), node("Mul", "x f", "y")]
        found = read(made(nodes, {"ones": [1], "two": np.int64(2), "flags": np.ones(99, bool)}))
        assert not found.independent, step.op_type


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Tile", "n two", "s")],
        [node("Expand", "n two", "s")],
        [node("Pad", "n around", "s")],
        [node("Unsqueeze", "n zeros", "u"), node("Transpose", "u", "s")],
        [node("Unsqueeze", "n zeros", "u"), node("Slice", "u corner far", "s")],
        [node("OneHot", "n depth levels", "s")],
        [node("Concat", "n many", "s", axis=0)],
        [node("Concat", "n thousand", "c", axis=0), node("ReduceProd", "c", "s")],
    ],
)
def test_numbers_made_of_the_number_of_rows_are_no_constants(nodes: Any) -> None:
    constants = {"two": [2], "zeros": [0], "around": [1, 1], "many": [1] * 64, "thousand": [1000.5] * 2}
    constants |= {"corner": [-1, -1], "far": [9, 9], "depth": np.int64(9), "levels": [0, 1]}
    nodes = [node("Shape", "x", "n", start=0, end=1), *nodes, node("ReduceMax", "s", "m", keepdims=0)]
    found = read(made([*nodes, node("Cast", "m", "f", to=FLOAT), node("Mul", "x f", "y")], constants))
    assert not found.independent


def test_a_number_of_rows_that_each_row_chooses() -> None:
    nodes = [node("Shape", "x", "n"), node("ArgMax", "x", "i", axis=2, keepdims=0), node("ReduceMax", "i one", "p")]
    nodes += [node("Squeeze", "p one", "places"), node("GatherElements", "n places", "s", axis=0)]
    assert not read(made([*nodes, node("Cast", "s", "y", to=FLOAT)], {"one": [1]})).independent


def test_a_branch_that_only_long_requests_take_mixes_rows_all_the_same() -> None:
    """A trial runs only one length, so it would show only the other branch."""
    one, two = (helper.make_tensor_value_info(name, FLOAT, None) for name in ("a", "b"))
    then = helper.make_graph([node("ReduceMean", "x zeros", "m"), node("Sub", "x m", "a")], "t", [], [one])
    otherwise = helper.make_graph([node("Identity", "x", "b")], "e", [], [two])
    nodes = [node("Shape", "x", "t", start=1, end=2), node("Greater", "t hundred", "long")]
    nodes.append(node("If", "long", "y", then_branch=then, else_branch=otherwise))
    found = read(made(nodes, {"zeros": [0], "hundred": [100]}, ("n", "t", 4)))
    assert found.mixes == ("ReduceMean 'm' reduces over the rows",)


@pytest.mark.parametrize(
    ("nodes", "size"),
    [
        ([node("Pad", "x sides f", "y")], 4),
        ([node("ArgMax", "x", "i", axis=1, keepdims=0), node("Concat", "nought f", "pair", axis=0),
          node("OneHot", "i depth pair", "y")], 4),
        ([node("Concat", "f f f f f f", "roi", axis=0), node("Concat", "n six six", "sizes", axis=0),
          helper.make_node("Resize", ["x", "roi", "", "sizes"], ["y"],
                           coordinate_transformation_mode="tf_crop_and_resize")], 4),
        ([node("Reshape", "x thetas", "t"), node("Concat", "n three n n", "to", axis=0),
          node("AffineGrid", "t to", "y")], 2),
    ],
)  # fmt: skip
def test_the_number_of_rows_where_few_rules_look_for_it(nodes: Any, size: int) -> None:
    """The number of rows is used as a fill value, a level, a corner of a region, or the width of an image."""
    constants = {"sides": [0, 1, 1, 0, 1, 1], "nought": np.zeros(1, np.float32), "depth": np.int64(9), "three": [3]}
    constants |= {"six": [6], "thetas": [-1, 2, 3]}
    before = [node("Shape", "x", "n", start=0, end=1), node("Cast", "n", "f", to=FLOAT)]
    found = read(made([*before, *nodes], constants, ("n", 3, size)))
    assert found.unknown, found


def test_a_scan_that_carries_the_number_of_rows() -> None:
    body = helper.make_graph(
        [node("Add", "h one", "next"), node("Identity", "each", "seen")],
        "body",
        [helper.make_tensor_value_info("h", INT64, None), helper.make_tensor_value_info("each", FLOAT, None)],
        [helper.make_tensor_value_info("next", INT64, None), helper.make_tensor_value_info("seen", FLOAT, None)],
    )
    nodes = [node("Shape", "x", "n", start=0, end=1), node("Scan", "n w", "s seen", body=body, num_scan_inputs=1)]
    nodes += [node("Cast", "s", "f", to=FLOAT), node("Mul", "x f", "y")]
    assert not read(made(nodes, {"one": [0], "w": W})).independent


def test_unequal_parts_of_the_rows_twice() -> None:
    nodes = [node("Concat", "x x", "twice", axis=0), node("Split", "twice parts", "y z", axis=0)]
    assert not read(made(nodes, {"parts": [1, 5]})).independent


def test_coordinates_that_share_a_dimension_with_a_constant() -> None:
    nodes = [node("ArgMax", "x", "i", axis=2), node("GatherND", "table i", "y", batch_dims=1)]
    assert not read(made(nodes, {"table": np.ones((1, 10), np.float32)})).independent


def test_many_tensors_of_one_operator_are_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtimes.dataflow.walk._MAX_NODES", 20)
    assert read(made([node("Sum", " ".join(["x"] * 20), "y")])).independent
    assert read(made([node("Sum", " ".join(["x"] * 400), "y")])).unknown


def test_what_works_picture_by_picture_is_followed() -> None:
    nodes = [node("DepthToSpace", "x", "y", blocksize=2)]
    assert read(made(nodes, shape=("n", 4, 3, 3))).independent


def test_weights_are_not_read(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    big = np.ones((12, 100000), np.float32)
    model = made([node("Flatten", "x", "f"), node("MatMul", "f big", "y")], {"big": big})
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    from runtimes import protobuf

    taken: list[int] = []
    whole = protobuf.FileMessage.read

    def counted(self: Any, start: int, size: int) -> bytes:
        result = whole(self, start, size)
        taken.append(len(result))
        return result

    monkeypatch.setattr(protobuf.FileMessage, "read", counted)
    found = analyze(of_file(str(tmp_path / "model.onnx")), Signature((TensorSpec("x"),), (TensorSpec("y"),)))
    assert found.independent
    assert sum(taken) < 10000


def test_numbers_that_grow_without_end_are_not_followed() -> None:
    doubling = [node("Mul", "a0 a0", "a1")] + [node("Mul", f"a{i} a{i}", f"a{i + 1}") for i in range(1, 60)]
    nodes = [node("Shape", "x", "a0"), *doubling, node("Reshape", "x a60", "y")]
    assert not read(made(nodes)).independent


def test_files_that_lie_are_malformed() -> None:
    branch = [node("Identity", "x", "a")]
    for _ in range(30):
        other = helper.make_graph([], "o", [], [helper.make_tensor_value_info("x", FLOAT, None)])
        inner = helper.make_graph(branch, "b", [], [helper.make_tensor_value_info("a", FLOAT, None)])
        branch = [node("If", "yes", "a", then_branch=inner, else_branch=other)]
    with pytest.raises(Malformed, match="deep"):
        read(made([*branch, node("Identity", "a", "y")], {"yes": np.array(True)}))
    content = made([node("Relu", "x", "y")]).SerializeToString()
    with pytest.raises(Malformed):
        of_bytes(content[:-1])


def test_a_rule_that_follows_nothing_never_makes_a_constant() -> None:
    from runtimes.dataflow.values import propagate

    assert propagate([Value((1,))]).unknown


def test_blocks_of_a_picture_stay_in_their_row() -> None:
    assert read(made([node("DepthToSpace", "x", "y", blocksize=2)], shape=("n", 8, 2, 2))).independent


def test_a_loop_that_carries_the_number_of_rows() -> None:
    """After the loop, the number is not a constant either."""
    infos = [("i", INT64, []), ("go", TensorProto.BOOL, []), ("count", FLOAT, [])]
    body = helper.make_graph(
        [node("Identity", "go", "goes"), node("Identity", "count", "kept")],
        "body",
        [helper.make_tensor_value_info(*info) for info in infos],
        [helper.make_tensor_value_info("goes", TensorProto.BOOL, []), helper.make_tensor_value_info("kept", FLOAT, [])],
    )
    nodes = [
        node("Shape", "x", "sizes"),
        node("Gather", "sizes zero", "n"),
        node("Cast", "n", "rows", to=FLOAT),
        node("Loop", "three yes rows", "after", body=body),
        node("Div", "x after", "y"),
    ]
    constants = {"zero": np.int64(0), "three": np.int64(3), "yes": np.array(True)}
    found = read(made(nodes, constants))
    assert not found.independent, found


def test_operators_that_draw_random_numbers_are_found_wherever_they_are() -> None:
    """Also in branches that depend on values, which the walk along rows does not enter, and behind many reasons."""

    def branch(operator: str) -> Any:
        noise = helper.make_node("RandomNormal", [], ["r"], name="noise", shape=[4])
        nodes = [noise, node(operator, "x r", "z")]
        return helper.make_graph(nodes, "b", [], [helper.make_tensor_value_info("z", FLOAT, None)])

    nodes = [
        node("ReduceSum", "x", "s", keepdims=0),
        node("Greater", "s zero", "c"),
        node("If", "c", "y", then_branch=branch("Add"), else_branch=branch("Mul")),
    ]
    found = read(made(nodes, {"zero": np.float32(0)}))
    assert found.varies == "RandomNormal 'noise' is random"
    many = [node("ReduceSum", "x axes", f"x{n}", keepdims=1) for n in range(20)]
    last = [node("RandomNormalLike", "x", "r"), node("Sum", " ".join(f"x{n}" for n in range(20)) + " r", "y")]
    assert read(made([*many, *last], {"axes": np.array([0])})).varies == "RandomNormalLike 'r' is random"
    assert read(made([node("Relu", "x", "y")])).varies == ""


SCALES = {"s": np.float32(0.1), "z": np.uint8(3)}


def quantized(operator: str, inputs: str, **attributes: Any) -> list[Any]:
    """An operator of ONNX Runtime's quantization tool; q is x, quantized."""
    own = node(operator, inputs, "r", domain="com.microsoft", **attributes)
    return [node("QuantizeLinear", "x s z", "q"), own, node("DequantizeLinear", "r s z", "y")]


@pytest.mark.parametrize(
    ("operator", "inputs", "shape", "attributes"),
    [
        ("QGemm", "q s z w s z b s z", ("n", 4), {}),
        ("QLinearConcat", "s z q s z q s z", ("n", 3, 4), {"axis": 1}),
        ("QLinearConcat", "s z q s z q s z", ("n", 3, 4), {"axis": -1}),
        ("QLinearWhere", "c q s z q s z s z", ("n", 3, 4), {}),
        ("QLinearSoftmax", "q s z s z", ("n", 3, 4), {"axis": -1, "opset": 13}),
        ("QLinearSoftmax", "q s z s z", ("n", 3, 4), {"axis": 1, "opset": 11}),
        ("QLinearGlobalAveragePool", "q s z s z", ("n", 2, 4, 4), {}),
        ("QLinearGlobalAveragePool", "q s z s z", ("n", 4, 4, 2), {"channels_last": 1}),
        ("QLinearAveragePool", "q s z s z", ("n", 2, 4, 4), {"kernel_shape": [2, 2]}),
    ],
)
def test_quantized_operators_that_keep_rows_apart(
    operator: str, inputs: str, shape: Any, attributes: dict[str, Any]
) -> None:
    constants = {**SCALES, "w": np.ones((4, 4), np.uint8), "b": np.ones(4, np.int32), "c": np.array([True])}
    assert read(made(quantized(operator, inputs, **attributes), constants, shape)).independent


@pytest.mark.parametrize(
    ("operator", "inputs", "shape", "attributes"),
    [
        ("QGemm", "q s z w s z b s z", (4, "n"), {"transA": 1}),
        ("QLinearConcat", "s z q s z w s z", ("n", 4), {"axis": 0}),
        ("QLinearSoftmax", "q s z s z", ("n", 3, 4), {"axis": 0, "opset": 13}),
        ("QLinearSoftmax", "q s z s z", ("n", 3, 4), {"axis": 0, "opset": 11}),
        ("QLinearGlobalAveragePool", "q s t s z", ("n", 2, 4, 4), {}),
        ("QLinearAveragePool", "q s z s z", ("n", 4, 4, 2), {"kernel_shape": [2, 2], "channels_last": 1}),
    ],
)
def test_quantized_operators_that_do_not(operator: str, inputs: str, shape: Any, attributes: dict[str, Any]) -> None:
    """Or that are not followed, as when a scale depends on the input."""
    constants = {**SCALES, "w": np.ones((4, 4), np.uint8), "b": np.ones(4, np.int32)}
    nodes = quantized(operator, inputs, **attributes)
    nodes.insert(1, node("Cast", "q", "t", to=TensorProto.UINT8))
    assert not read(made(nodes, constants, shape)).independent


def test_the_first_of_values_that_are_the_same_for_each_row_is_no_row() -> None:
    """So CNTK's sequence.last finds the last step: by a mask for each row, of which it reads the first."""

    def found(index: int, source: str = "mask") -> BatchAnalysis:
        nodes = [
            node("Shape", "x", "sizes", end=2),
            node("Expand", "one sizes", "ones"),
            node("Concat", "ones ones", "mask", axis=1),
            node("ReduceSum", "x last", "sums", keepdims=0),
            node("Concat", "sums ones", "values", axis=1),
            node("Gather", f"{source} index", "row", axis=0),
            node("ReduceSum", "row", "scalar", keepdims=0),
            node("Add", "x scalar", "y"),
        ]
        return read(made(nodes, {"one": np.float32(1), "last": np.array([2]), "index": np.array(index)}))

    assert found(0).independent
    assert not found(1).independent  # a single row has no second one
    assert found(0, "values").mixes


@pytest.mark.parametrize("operator", ["Attention", "QAttention", "MultiHeadAttention"])
def test_a_constant_mask_of_an_attention_is_for_one_number_of_rows(operator: str) -> None:
    """Its two elements are the end and the start of one row, or the lengths of two."""
    weights = {"w": np.ones((4, 12), np.float32), "b": np.ones(12, np.float32), "mask": np.array([2, 1], np.int32)}
    inputs = {"Attention": "x w b", "QAttention": "x w b s s", "MultiHeadAttention": "x x x b"}[operator].split()
    for mask, independent in ([], True), (["mask"], False):
        own = helper.make_node(operator, [*inputs, *mask], ["y"], domain="com.microsoft", num_heads=2)
        assert read(made([own], {**weights, "s": np.float32(1)})).independent is independent
