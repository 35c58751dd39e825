"""Make small ONNX models, each with a case: `PYTHON onnx.py FOLDER`, in an interpreter that has `onnx`.

This file must not be imported as `onnx`; run as a script, its folder comes first on sys.path, so
that folder is removed again.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
from onnx import TensorProto, helper, numpy_helper, save  # noqa: E402

FLOAT, HALF, DOUBLE, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BOOL
# A string of rank 0 that ends with a zero, which numpy's own strings would drop, and an empty string.
SCALARS = {"string_scalar": "end\0", "string_scalar_empty": ""}
# For cases whose graph shows that rows do not influence each other.
FOLLOWED = {"analysis": "independent"}
INT64, STRING, FNUZ = TensorProto.INT64, TensorProto.STRING, TensorProto.FLOAT8E4M3FNUZ
# Values of each type, in three columns, and twice as much. The last bytes of INT4 are half empty.
SMALL_TYPES: dict[str, Any] = {
    "b": (TensorProto.BFLOAT16, "BF16", [[1.0, -0.5, 2.0**126], [0.0, 2.0**-133, 255.0]]),
    "e": (TensorProto.FLOAT8E4M3FN, "FP8_E4M3FN", [[1.0, -0.5, 224.0], [0.0, 0.001953125, 15.0]]),
    "f": (TensorProto.FLOAT8E5M2, "FP8_E5M2", [[1.0, -0.5, 28672.0], [0.0, 1.52587890625e-05, 14.0]]),
    "i": (TensorProto.INT4, "INT4", [[1, -4, 3], [0, -1, 2]]),
    "u": (TensorProto.UINT4, "UINT4", [[1, 7, 3], [0, 4, 2]]),
}


def write(root, name, nodes, inputs, outputs, case, initializers=(), beside=False, opset=17):
    """Write a model and its case. beside: whether the weights are in a separate file."""
    folder = Path(root, name)
    folder.mkdir(parents=True)
    values = [
        [helper.make_tensor_value_info(key, kind, shape) for key, kind, shape in group] for group in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, name, *values, initializer=list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 19 else 10)
    where = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0} if beside else {}
    save(model, str(folder / "model.onnx"), **where)
    (folder / "case.json").write_text(json.dumps({"artifact": "model.onnx", **case}))


def write_small_types(root, node):
    """Write a model whose inputs and outputs have the types that numpy lacks. Few operators have kernels for them."""
    nodes, inputs, outputs = [], [], []
    for name, (kind, _, _) in SMALL_TYPES.items():
        nodes += [
            node("Cast", [name], [name + "_wide"], to=FLOAT),
            node("Add", [name + "_wide", name + "_wide"], [name + "_twice"]),
            node("Cast", [name + "_twice"], [name + "2"], to=kind),
        ]
        inputs.append((name, kind, ["n", 3]))
        outputs.append((name + "2", kind, ["n", 3]))
    case = {
        "values": {name: values for name, (_, _, values) in SMALL_TYPES.items()},
        "expected_values": {
            name + "2": [[2 * value for value in row] for row in values] for name, (_, _, values) in SMALL_TYPES.items()
        },
        "expected_signature": {
            "inputs": [[name, datatype, [-1, 3]] for name, (_, datatype, _) in SMALL_TYPES.items()],
            "outputs": [[name + "2", datatype, [-1, 3]] for name, (_, datatype, _) in SMALL_TYPES.items()],
        },
    }
    write(root, "small_types", nodes, inputs, outputs, {**case, **FOLLOWED}, opset=21)
    adds = [node("Add", ["x", "x"], ["y"])]
    kind = TensorProto.BFLOAT16
    write(root, "no_kernel", adds, [("x", kind, ["n"])], [("y", kind, ["n"])], {"load_error": "implementation for Add"})


def write_faults(root, node):
    """Write models with requests that fail deep in the graph."""
    table = numpy_helper.from_array(np.ones((3, 2), np.float32), "table")

    def fault(name, nodes, inputs, outputs, values, words):
        write(Path(root, "faults"), name, nodes, inputs, outputs, {}, [table])
        return [name + "/model.onnx", values, "client", words]

    case = [
        fault("divides", [node("Div", ["x", "z"], ["y"])], [("x", INT64, ["n"]), ("z", INT64, ["n"])],
              [("y", INT64, ["n"])], {"x": [1], "z": [0]}, "Integer division by zero"),
        fault("gathers", [node("GatherElements", ["table", "x"], ["y"])], [("x", INT64, ["n", 1])],
              [("y", FLOAT, ["n", 1])], {"x": [[9]]}, "GatherElements op: Out of range value"),
        fault("fills", [node("ConstantOfShape", ["x"], ["y"])], [("x", INT64, ["n"])],
              [("y", FLOAT, None)], {"x": [-1]}, "Tensor shape.Size() must be >= 0"),
        fault("reads", [node("Cast", ["x"], ["y"], to=FLOAT)], [("x", STRING, ["n"])],
              [("y", FLOAT, ["n"])], {"x": ["abc"]}, "a string cannot be read as a number"),
        fault("multiplies", [node("MatMul", ["x", "table"], ["y"])], [("x", FLOAT, ["n", "m"])],
              [("y", FLOAT, ["n", 2])], {"x": [[1.0, 2.0]]}, "MatMul dimension mismatch"),
    ]  # fmt: skip
    Path(root, "faults", "case.json").write_text(json.dumps({"artifact": "divides/model.onnx", "faults": case}))


def main(root):
    node = helper.make_node
    write_faults(root, node)
    write(
        root,
        "half",
        [node("Add", ["x", "x"], ["y"])],
        [("x", HALF, ["n", 3])],
        [("y", HALF, ["n", 3])],
        {"expected_signature": {"inputs": [["x", "FP16", [-1, 3]]], "outputs": [["y", "FP16", [-1, 3]]]}, **FOLLOWED},
    )
    write(
        root,
        "bool",
        [node("Not", ["x"], ["y"])],
        [("x", BOOL, ["n", "m"])],
        [("y", BOOL, ["n", "m"])],
        {"values": {"x": [[True, False, True]]}},
    )
    write(
        root,
        "int64_scalar",
        [node("Add", ["x", "step"], ["y"])],
        [("x", INT64, ["n"]), ("step", INT64, [])],
        [("y", INT64, ["n"])],
        {
            "values": {"x": [1, 2, 3], "step": 4},
            "expected_signature": {"inputs": [["x", "INT64", [-1]], ["step", "INT64", []]]},
            "analysis": {"unknown": "'step' is a scalar"},
        },
    )
    write(
        root,
        "strings",
        [node("Identity", ["x"], ["y"])],
        [("x", STRING, ["n", 2])],
        [("y", STRING, ["n", 2])],
        {
            "values": {"x": [["a", "grün"], ["", "日本"], ["end\0", "\0"]]},
            "expected_signature": {"outputs": [["y", "BYTES", [-1, 2]]]},
            "expected_values": {"y": [["a", "grün"], ["", "日本"], ["end\0", "\0"]]},
            "strings": True,
            **FOLLOWED,
        },
    )
    for name, text in SCALARS.items():
        case = {"values": {"x": text}, "expected_values": {"y": text}, "strings": True}
        write(root, name, [node("Identity", ["x"], ["y"])], [("x", STRING, [])], [("y", STRING, [])], case)
    write(
        root,
        "unknown_rank",  # which ONNX Runtime reports as a scalar's
        [node("Neg", ["x"], ["y"]), node("ReduceSum", ["x"], ["sum"], keepdims=0)],
        [("x", FLOAT, None)],
        [("y", FLOAT, None), ("sum", FLOAT, [])],
        {
            "values": {"x": [[1.0, 2.0]]},
            "expected_values": {"y": [[-1.0, -2.0]], "sum": 3.0},
            "expected_signature": {
                "inputs": [["x", "FP32", None]],
                "outputs": [["y", "FP32", None], ["sum", "FP32", []]],
            },
            "analysis": {"unknown": "'x' has no known rank"},
        },
    )
    write(
        root,
        "several_outputs",
        [
            node("Mul", ["x", "two"], ["double"]),
            node("ReduceSum", ["x", "axes"], ["sum"]),
            node("Cast", ["x"], ["small"], to=FNUZ),
        ],
        [("x", DOUBLE, ["n", 3])],
        [("double", DOUBLE, ["n", 3]), ("small", FNUZ, ["n", 3]), ("sum", DOUBLE, ["n", 1])],
        {
            "refused": ["small"],
            "expected_signature": {"outputs": [["double", "FP64", [-1, 3]], ["sum", "FP64", [-1, 1]]]},
            **FOLLOWED,
        },
        [numpy_helper.from_array(np.array(2.0), "two"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    write_small_types(root, node)
    # A weight that is listed as an input, as in models before IR 4, need not be in a request.
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    write(
        root,
        "weight_as_input",
        [node("MatMul", ["x", "w"], ["y"])],
        [("x", FLOAT, ["n", 3]), ("w", FLOAT, [3, 3])],
        [("y", FLOAT, ["n", 3])],
        {"expected_signature": {"inputs": [["x", "FP32", [-1, 3]]]}, **FOLLOWED},
        [weight],
    )
    # The graph shows the number of rows in the table, and that rows of a batch are independent, even though the model
    # is loaded from a copy.
    write(
        root,
        "table_beside",
        [node("Gather", ["table", "ids"], ["y"])],
        [("ids", INT64, ["n", 2])],
        [("y", FLOAT, ["n", 2, 1])],
        {
            "values": {"ids": [[30521, 0]]},
            "expected_values": {"y": [[[30521.0], [0.0]]]},
            "bad": [{"ids": [[30522, 0]]}],
            "analysis": "independent",
            "ranges": {"ids": [0, 30521, True]},
        },
        [numpy_helper.from_array(np.arange(30522, dtype=np.float32)[:, None], "table")],
        beside=True,
    )
    # A wrong size is noticed only in the middle of the model, and ONNX Runtime's message names a node.
    write(
        root,
        "reshape",
        [node("Reshape", ["x", "shape"], ["y"], name="secret/inner/node")],
        [("x", FLOAT, ["n"])],
        [("y", FLOAT, ["m", 4])],
        {
            "values": {"x": [1, 2, 3, 4]},
            "bad": [{"x": [1, 2, 3]}],
            "not_batchable": True,
            "analysis": {"unknown": "Reshape"},
        },
        [numpy_helper.from_array(np.array([-1, 4]), "shape")],
    )
    # Explicit zeros win over negative numbers, but a pooling's own padding never does: optimizers must not merge them.
    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads")
    minus = {"values": {"x": [[[[-5.0, -5.0], [-5.0, -5.0]]]]}}
    zeros = [[[[0, 0, 0], [0, -5, 0], [0, 0, 0]]]]
    write(
        root,
        "pad_then_pool",
        [
            node("Pad", ["x", "pads"], ["padded"]),
            node("MaxPool", ["padded"], ["y"], kernel_shape=[2, 2]),
        ],
        [("x", FLOAT, ["n", 1, 2, 2])],
        [("y", FLOAT, ["n", 1, 3, 3])],
        {**minus, "expected_values": {"y": zeros}, **FOLLOWED},
        [pads],
    )
    # Two pairs: the second, coarser one rounds again, whatever the first one was.
    scales = {"fine": np.float32(0.02), "coarse": np.float32(0.5), "zero": np.uint8(3)}
    write(
        root,
        "quantised_twice",
        [
            node("QuantizeLinear", ["x", "fine", "zero"], ["a"]),
            node("DequantizeLinear", ["a", "fine", "zero"], ["b"]),
            node("QuantizeLinear", ["b", "coarse", "zero"], ["c"]),
            node("DequantizeLinear", ["c", "coarse", "zero"], ["y"]),
        ],
        [("x", FLOAT, ["n", 3])],
        [("y", FLOAT, ["n", 3])],
        {"values": {"x": [[-6.0, 0.3, 1.0]]}, "expected_values": {"y": [[0.0, 0.5, 1.0]]}, **FOLLOWED},
        [numpy_helper.from_array(np.array(value), name) for name, value in scales.items()],
    )
    # The weights are not integers, and must not become integers: in 8 bits, 0.25 next to 100 is zero.
    layer = {"weight": np.float32([[100, 0.25], [0, 0.25]]), "shift": np.zeros(2, np.float32)}
    layer.update(scale=np.float32(0.5), zero=np.uint8(0))
    write(
        root,
        "quantised_around_floats",
        [
            node("QuantizeLinear", ["x", "scale", "zero"], ["a"]),
            node("DequantizeLinear", ["a", "scale", "zero"], ["b"]),
            node("Gemm", ["b", "weight", "shift"], ["c"]),
            node("QuantizeLinear", ["c", "scale", "zero"], ["d"]),
            node("DequantizeLinear", ["d", "scale", "zero"], ["y"]),
        ],
        [("x", FLOAT, ["n", 2])],
        [("y", FLOAT, ["n", 2])],
        {"values": {"x": [[1.0, 1.0]]}, "expected_values": {"y": [[100.0, 0.5]]}, **FOLLOWED},
        [numpy_helper.from_array(np.array(value), name) for name, value in layer.items()],
    )
    # ONNX Runtime overwrites the variance with the running variance, so the scale must be another tensor.
    ones = [numpy_helper.from_array(np.ones(2, np.float32), name) for name in ("scale", "variance")]
    zeros_of_two = [numpy_helper.from_array(np.zeros(2, np.float32), name) for name in ("shift", "mean")]
    write(
        root,
        "batch_norm_training",
        [
            node(
                "BatchNormalization",
                ["x", "scale", "shift", "mean", "variance"],
                ["y", "new_mean", "new_variance"],
                training_mode=1,
                epsilon=1e-9,
            )
        ],
        [("x", FLOAT, ["n", 2, 2])],
        [("y", FLOAT, ["n", 2, 2])],
        {
            "values": {"x": [[[2.0, 6.0], [10.0, 20.0]]]},
            "expected_values": {"y": [[[-1.0, 1.0], [-1.0, 1.0]]]},
            "not_batchable": True,
            "analysis": {"mixes": "in training mode"},
        },
        [*ones, *zeros_of_two],
    )
    write(
        root,
        "parameter_wrong",
        [node("Identity", ["x"], ["y"])],
        [("x", FLOAT, ["n"])],
        [("y", FLOAT, ["n"])],
        {"options": {"parameters": {"disabled_optimizers": "Pad_Fusion"}}, "load_error": "must be a list of strings"},
    )
    write(
        root,
        "spinning_wrong",
        [node("Identity", ["x"], ["y"])],
        [("x", FLOAT, ["n"])],
        [("y", FLOAT, ["n"])],
        {"options": {"parameters": {"allow_spinning": 1}}, "load_error": "must be false or true"},
    )
    write(
        root,
        "unknown_operator",
        [node("NoSuchOperator", ["x"], ["y"])],
        [("x", FLOAT, [1])],
        [("y", FLOAT, [1])],
        {"load_error": True},
    )


if __name__ == "__main__":
    main(sys.argv[1])
