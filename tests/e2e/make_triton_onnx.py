"""Make ONNX models as Triton's users have them: `PYTHON make_triton_onnx.py FOLDER`, with a Python that has onnx."""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

FLOAT, INT32 = TensorProto.FLOAT, TensorProto.INT32


def write(file, nodes, inputs, outputs, initializers=()):
    values = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in group] for group in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "g", *values, initializer=list(initializers))
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))


def main(folder):
    node = helper.make_node
    write(
        folder / "add_sub.onnx",
        [node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]), node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"])],
        [("INPUT0", INT32, ["n", 16]), ("INPUT1", INT32, ["n", 16])],
        [("OUTPUT0", INT32, ["n", 16]), ("OUTPUT1", INT32, ["n", 16])],
    )
    write(
        folder / "twice.onnx",
        [node("Add", ["x", "x"], ["y"])],
        [("x", FLOAT, ["n", 4])],
        [("y", FLOAT, ["n", 4])],
    )
    # One image at a time: the mean of each color.
    write(
        folder / "means.onnx",
        [node("ReduceMean", ["data"], ["means"], axes=[2, 3])],
        [("data", FLOAT, [1, 3, 4, 4])],
        [("means", FLOAT, [1, 3, 1, 1])],
    )
    # The batch is the only dimension.
    write(
        folder / "one.onnx",
        [node("Mul", ["x", "ten"], ["y"])],
        [("x", FLOAT, ["n"])],
        [("y", FLOAT, ["n"])],
        [numpy_helper.from_array(np.array(10.0, np.float32), "ten")],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
