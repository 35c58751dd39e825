"""Make the export table's ONNX models: `PYTHON onnx.py FOLDER`, in an interpreter that has `onnx`.

This file must not be imported as `onnx`; run as a script, its folder comes first on sys.path, so
that folder is removed again.
"""

import sys
from pathlib import Path

sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
from onnx import TensorProto, checker, helper, numpy_helper, save  # noqa: E402

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node, info = helper.make_node, helper.make_tensor_value_info


class Weights:
    """Random weights, and their initializers."""

    def __init__(self, seed):
        self._random = np.random.default_rng(seed)
        self.made = []

    def __call__(self, *shape):
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        return self.const(self._random.normal(0, fan**-0.5, shape).astype(np.float32))

    def const(self, value):
        name = f"w{len(self.made)}"
        self.made.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def dense(weights, x, y, rows, columns):
    return node("Gemm", [x, weights(columns, rows), weights(columns)], [y], transB=1)


def main(root):
    def write(name, nodes, inputs, outputs, weights):
        graph = helper.make_graph(
            nodes, name, [info(*each) for each in inputs], [info(*each) for each in outputs], weights.made
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(model)
        folder = Path(root, name, "1")
        folder.mkdir(parents=True)
        save(model, str(folder / "model.onnx"))

    w = Weights(0)
    nodes = [
        dense(w, "x", "a", 12, 16), node("Relu", ["a"], ["b"]),
        dense(w, "b", "c", 16, 4), node("Softmax", ["c"], ["scores"], axis=1),
    ]  # fmt: skip
    write("mlp", nodes, [("x", FLOAT, ["n", 12])], [("scores", FLOAT, ["n", 4])], w)

    w = Weights(1)
    positive = w.const(np.linspace(0.5, 2, 8, dtype=np.float32))
    nodes = [
        node("Conv", ["image", w(8, 2, 3, 3), w(8)], ["a"], group=2, pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", w(8), w(8), w(8), positive], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["d"], ["e"]),
        dense(w, "e", "scores", 8 * 6 * 5, 5),
    ]
    write("cnn", nodes, [("image", FLOAT, ["n", 4, 12, 10])], [("scores", FLOAT, ["n", 5])], w)

    w = Weights(2)
    nodes = [
        node("Conv", ["image", w(6, 3, 3, 3), w(6)], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("ConvTranspose", ["b", w(6, 6, 2, 2), w(6)], ["c"], strides=[2, 2]),
        node("Relu", ["c"], ["d"]),
        node("Conv", ["d", w(5, 6, 1, 1), w(5)], ["mask"]),
    ]
    write("fcn", nodes, [("image", FLOAT, ["n", 3, 8, 12])], [("mask", FLOAT, ["n", 5, 8, 12])], w)

    w = Weights(3)
    nodes = [
        node("Transpose", ["x"], ["a"], perm=[1, 0, 2]),
        node("LSTM", ["a", w(2, 20, 6), w(2, 20, 5), w(2, 40)], ["b"], hidden_size=5, direction="bidirectional"),
        node("Transpose", ["b"], ["c"], perm=[2, 0, 1, 3]),
        node("Reshape", ["c", w.const(np.array([0, 7, 10]))], ["steps"]),
        node("Gather", ["steps", w.const(np.array(6))], ["last"], axis=1),
        dense(w, "last", "scores", 10, 3),
    ]
    outputs = [("steps", FLOAT, ["n", 7, 10]), ("scores", FLOAT, ["n", 3])]
    write("lstm", nodes, [("x", FLOAT, ["n", 7, 6])], outputs, w)

    w = Weights(4)
    heads, flat = w.const(np.array([0, 6, 2, 8])), w.const(np.array([0, 6, 16]))
    nodes = [node("LayerNormalization", ["x", w(16), w(16)], ["a"])]
    for part, perm in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        nodes += [
            node("MatMul", ["a", w(16, 16)], [part + "_flat"]),
            node("Reshape", [part + "_flat", heads], [part + "_heads"]),
            node("Transpose", [part + "_heads"], [part], perm=perm),
        ]
    nodes += [
        node("MatMul", ["query", "key"], ["b"]),
        node("Div", ["b", w.const(np.float32(8**0.5))], ["c"]),
        node("Softmax", ["c"], ["d"], axis=-1),
        node("MatMul", ["d", "value"], ["e"]),
        node("Transpose", ["e"], ["f"], perm=[0, 2, 1, 3]),
        node("Reshape", ["f", flat], ["g"]),
        node("MatMul", ["g", w(16, 16)], ["h"]),
        node("Add", ["x", "h"], ["i"]),
        node("LayerNormalization", ["i", w(16), w(16)], ["j"]),
        node("MatMul", ["j", w(16, 32)], ["k"]),
        node("Add", ["k", w(32)], ["l"]),
        # GELU as torch.onnx writes it.
        node("Div", ["l", w.const(np.float32(2**0.5))], ["m"]),
        node("Erf", ["m"], ["n"]),
        node("Add", ["n", w.const(np.float32(1))], ["o"]),
        node("Mul", ["l", "o"], ["p"]),
        node("Mul", ["p", w.const(np.float32(0.5))], ["q"]),
        node("MatMul", ["q", w(32, 16)], ["r"]),
        node("Add", ["i", "r"], ["y"]),
    ]
    write("attention", nodes, [("x", FLOAT, ["batch", 6, 16])], [("y", FLOAT, ["batch", 6, 16])], w)

    w = Weights(5)
    one = helper.make_graph([dense(w, "x", "one", 4, 3)], "one", [], [info("one", FLOAT, ["n", 3])])
    two = [dense(w, "x", "a", 4, 3), node("Neg", ["a"], ["two"])]
    nodes = [
        node("ReduceSum", ["x"], ["sum"], keepdims=0),
        node("Greater", ["sum", w.const(np.float32(0))], ["positive"]),
        node(
            "If", ["positive"], ["y"],
            then_branch=one, else_branch=helper.make_graph(two, "two", [], [info("two", FLOAT, ["n", 3])]),
        ),
    ]  # fmt: skip
    write("branch", nodes, [("x", FLOAT, ["n", 4])], [("y", FLOAT, ["n", 3])], w)

    w = Weights(6)
    limit = w.const(np.float32(1))

    def above(x, y):
        return [node("Abs", [x], [y + "1"]), node("ReduceMax", [y + "1"], [y + "2"], keepdims=0),
                node("Greater", [y + "2", limit], [y])]  # fmt: skip

    turn = [dense(w, "before", "a", 4, 4), node("Tanh", ["a"], ["after"]), *above("after", "more")]
    body = helper.make_graph(
        turn, "body",
        [info("round", INT64, []), info("going", BOOL, []), info("before", FLOAT, ["n", 4])],
        [info("more", BOOL, []), info("after", FLOAT, ["n", 4])],
    )  # fmt: skip
    nodes = [*above("x", "first"), node("Loop", [w.const(np.array(5)), "first", "x"], ["y"], body=body)]
    write("loop", nodes, [("x", FLOAT, ["n", 4])], [("y", FLOAT, ["n", 4])], w)

    w = Weights(7)
    nodes = [
        node("Gather", [w(10, 4), "tokens"], ["a"]),
        node("ReduceMean", ["a"], ["words"], axes=[1], keepdims=0),
        dense(w, "features", "numbers", 3, 4),
        node("Add", ["words", "numbers"], ["b"]),
        node("Sigmoid", ["b"], ["onset"]),
        node("Sub", ["words", "numbers"], ["note"]),
    ]
    inputs = [("tokens", INT64, ["n", 5]), ("features", FLOAT, ["n", 3])]
    write("multi", nodes, inputs, [("onset", FLOAT, ["n", 4]), ("note", FLOAT, ["n", 4])], w)

    w = Weights(8)
    nodes = [node("Mul", ["x", w.const(np.float32(2))], ["a"]), node("Add", ["a", w.const(np.float32(1))], ["other"])]
    write("passing", nodes, [("x", FLOAT, ["n", 3])], [("x", FLOAT, ["n", 3]), ("other", FLOAT, ["n", 3])], w)

    w = Weights(9)
    before = ("serving:in/b:0", "serving:in/a:0")
    nodes = [node("Sub", before, ["difference"]), dense(w, "difference", "out/y:0", 4, 3)]
    write("names", nodes, [(name, FLOAT, ["n", 4]) for name in before], [("out/y:0", FLOAT, ["n", 3])], w)

    w = Weights(10)
    nodes = [node("Conv", ["x", w(5, 3, 3), w(5)], ["a"], pads=[1, 1]), node("Relu", ["a"], ["y"])]
    write("long", nodes, [("x", FLOAT, ["n", 3, 320])], [("y", FLOAT, ["n", 5, 320])], w)


if __name__ == "__main__":
    main(sys.argv[1])
