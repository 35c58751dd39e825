"""Make ONNX models that must not be batched: `PYTHON make_unbatchable_onnx.py FOLDER`, with a Python that has onnx."""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def write(file, nodes, inputs, outputs, initializers):
    values = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in group] for group in (inputs, outputs)
    ]
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in initializers.items()]
    graph = helper.make_graph(nodes, "g", *values, initializer=constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(file))


def main(folder):
    node = helper.make_node
    # Two boxes per picture; each is a hit if its half of the picture is bright on average.
    write(
        folder / "detector.onnx",
        [
            node("ReduceMean", ["picture", "within"], ["brightness"], keepdims=0),
            node("Unsqueeze", ["brightness", "one"], ["scores"]),
            node("Shape", ["picture"], ["shape"], start=0, end=1),
            node("Concat", ["shape", "boxes_of_one"], ["boxes_shape"], axis=0),
            node("Expand", ["halves", "boxes_shape"], ["boxes"]),
            node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "bright"], ["hits"]),
        ],
        [("picture", FLOAT, ["n", 2, 4])],
        [("hits", INT64, ["hits", 3])],
        {
            "within": [2],
            "one": [1],
            "boxes_of_one": [2, 4],
            "halves": np.float32([[[0, 0, 1, 0.5], [0, 0.5, 1, 1]]]),
            "most": [10],
            "overlap": np.float32([0.5]),
            "bright": np.float32([100]),
        },
    )
    # The mean over as many steps as the batch's longest sequence has.
    write(
        folder / "longest.onnx",
        [
            node("ReduceMax", ["lengths", "zero"], ["longest"], keepdims=1),
            node("Slice", ["steps", "zero", "longest", "one"], ["kept"]),
            node("ReduceMean", ["kept", "one"], ["mean"], keepdims=0),
        ],
        [("steps", FLOAT, ["n", "time"]), ("lengths", INT64, ["n"])],
        [("mean", FLOAT, ["n"])],
        {"zero": [0], "one": [1]},
    )
    write(
        folder / "quantised.onnx",
        [
            node("DynamicQuantizeLinear", ["x"], ["bytes", "scale", "zero_point"]),
            node("DequantizeLinear", ["bytes", "scale", "zero_point"], ["y"]),
        ],
        [("x", FLOAT, ["n", 4])],
        [("y", FLOAT, ["n", 4])],
        {},
    )
    write(folder / "nonzero.onnx", [node("NonZero", ["x"], ["y"])], [("x", FLOAT, ["k"])], [("y", INT64, [1, "z"])], {})


main(Path(sys.argv[1]))
