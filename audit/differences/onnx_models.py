"""Writes the questions as ONNX models (opset 20) to a folder. Runs in an environment that has `onnx`."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

from audit.differences.questions import QUESTIONS

node = helper.make_node
OPSET = 20


def constant(name: str, values: Any, dtype: str) -> Any:
    return numpy_helper.from_array(np.array(values, dtype), name)


# Question id → the nodes that compute "z" from "x" and "y", and their constants.
GRAPHS: dict[str, tuple[list[Any], list[Any]]] = {
    "nan-maximum": ([node("Max", ["x", "y"], ["z"])], []),
    "nan-relu": ([node("Relu", ["x"], ["z"])], []),
    "nan-clip": ([node("Clip", ["x", "lo", "hi"], ["z"])], [constant("lo", 0, "float32"),
                                                            constant("hi", 6, "float32")]),
    "nan-reduce-max": ([node("ReduceMax", ["x", "a"], ["z"], keepdims=0)], [constant("a", [1], "int64")]),
    "nan-argmax": ([node("ArgMax", ["x"], ["z"], axis=1, keepdims=0)], []),
    "nan-top-k": ([node("TopK", ["x", "k"], ["z", "i"])], [constant("k", [2], "int64")]),
    "nan-max-pool": ([node("MaxPool", ["x"], ["z"], kernel_shape=[2], strides=[2])], []),
    "denormal-product": ([node("Mul", ["x", "y"], ["w"]), node("Slice", ["w", "s", "e"], ["z"])],
                         [constant("s", [0], "int64"), constant("e", [1], "int64")]),
    "sigmoid-tail": ([node("Sigmoid", ["x"], ["z"])], []),
    "softplus-tail": ([node("Softplus", ["x"], ["z"])], []),
    "integer-division": ([node("Div", ["x", "y"], ["z"])], []),
    "integer-remainder": ([node("Mod", ["x", "y"], ["z"])], []),
    "float-remainder": ([node("Mod", ["x", "y"], ["z"], fmod=1)], []),
    "sum-beyond-2-53": ([node("ReduceSum", ["x"], ["z"], keepdims=0)], []),
    "float-sum": ([node("ReduceSum", ["x"], ["z"], keepdims=0)], []),
    "integer-overflow": ([node("Add", ["x", "y"], ["z"])], []),
    "mean-of-nothing": ([node("ReduceMean", ["x", "a"], ["z"], keepdims=0)], [constant("a", [1], "int64")]),
    "max-of-nothing": ([node("ReduceMax", ["x", "a"], ["z"], keepdims=0)], [constant("a", [1], "int64")]),
    "cast-nan-int32": ([node("Cast", ["x"], ["z"], to=TensorProto.INT32)], []),
    "cast-uint8": ([node("Cast", ["x"], ["z"], to=TensorProto.UINT8)], []),
    "masked-row": ([node("Softmax", ["x"], ["z"])], []),
    "round-half": ([node("Round", ["x"], ["z"])], []),
    "argmax-tie": ([node("ArgMax", ["x"], ["z"], axis=1, keepdims=0)], []),
    "top-k-tie": ([node("TopK", ["x", "k"], ["v", "z"])], [constant("k", [2], "int64")]),
    "average-pool-edge": ([node("AveragePool", ["x"], ["z"], kernel_shape=[3], strides=[2], pads=[1, 1])], []),
    "resize-nearest-up": ([node("Resize", ["x", "", "", "n"], ["z"])], [constant("n", [1, 1, 6], "int64")]),
    "resize-nearest-down": ([node("Resize", ["x", "", "", "n"], ["z"])], [constant("n", [1, 1, 2], "int64")]),
    "resize-linear": ([node("Resize", ["x", "", "", "n"], ["z"], mode="linear")], [constant("n", [1, 1, 6], "int64")]),
    "negative-index": ([node("Gather", ["x", "y"], ["z"])], []),
    "index-too-large": ([node("Gather", ["x", "y"], ["z"])], []),
    "power": ([node("Pow", ["x", "y"], ["z"])], []),
    "gelu-default": ([node("Gelu", ["x"], ["z"])], []),
    "sign-of-nan": ([node("Sign", ["x"], ["z"])], []),
    "logarithm-below-zero": ([node("Log", ["x"], ["z"])], []),
    "normalised-constant": ([node("LayerNormalization", ["x", "g"], ["z"])], [constant("g", [1, 1, 1], "float32")]),
}  # fmt: skip
INTEGERS = {"nan-argmax": TensorProto.INT64, "argmax-tie": TensorProto.INT64, "top-k-tie": TensorProto.INT64}
INTEGERS |= {"cast-nan-int32": TensorProto.INT32, "cast-uint8": TensorProto.UINT8}
# Question id → the rank of "z", if it differs from that of "x".
RANKS = {"nan-reduce-max": 1, "nan-argmax": 1, "argmax-tie": 1, "sum-beyond-2-53": 0, "float-sum": 0}
RANKS |= {"mean-of-nothing": 1, "max-of-nothing": 1}


def write(folder: Path) -> None:
    """Write one file for each question for which ONNX has an operator."""
    for question in QUESTIONS:
        if question.id not in GRAPHS:
            continue
        nodes, constants = GRAPHS[question.id]
        infos = []
        for name, (dtype, values) in sorted(question.inputs.items()):
            array = np.array(values, dtype)
            infos.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
        kind = INTEGERS.get(question.id, infos[0].type.tensor_type.elem_type)
        outputs = [
            helper.make_tensor_value_info(
                "z", kind, ["any"] * RANKS.get(question.id, len(infos[0].type.tensor_type.shape.dim))
            )
        ]
        graph = helper.make_graph(nodes, question.id, infos, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        checker.check_model(model)
        save(model, folder / f"{question.id}.onnx")
