"""Compare unrolled layers with ONNX Runtime's, in export-tf's environment. Print name → largest difference."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[2]))
from runtimes.conversion import Refused
from runtimes.converters.tf.recurrent import unroll

STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def model(
    kind: str, direction: str, bias: bool, states: bool, lengths: int = 0, holes: bool = False, **more: Any
) -> Any:
    random = np.random.default_rng(7)
    sides = 2 if direction == "bidirectional" else 1
    shapes = {"w": (sides, GATES[kind] * HIDDEN, INPUT), "r": (sides, GATES[kind] * HIDDEN, HIDDEN)}
    inputs = ["x", "w", "r", "", ""]
    if bias:
        shapes["b"], inputs[3] = (sides, 2 * GATES[kind] * HIDDEN), "b"
    if holes:
        shapes["p"], inputs = (sides, 3 * HIDDEN), [*inputs, "", "", "p"]
    if states:
        names = ["h", "c"][: 2 if kind == "LSTM" else 1]
        shapes.update(dict.fromkeys(names, (sides, BATCH, HIDDEN)))
        inputs[5 : 5 + len(names)] = names
    weights = [numpy_helper.from_array(random.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    if lengths:
        inputs[4] = "lengths"
        weights.append(numpy_helper.from_array(np.full(BATCH, lengths, np.int32), "lengths"))
    outputs = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    node = helper.make_node(kind, inputs, outputs, hidden_size=HIDDEN, direction=direction, **more)
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, BATCH, INPUT])
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph([node], "g", [entry], results, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def outputs(proto: Any) -> list[np.ndarray]:
    x = np.random.default_rng(8).normal(size=(STEPS, BATCH, INPUT)).astype(np.float32)
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})


def difference(proto: Any) -> float:
    written = ir.from_proto(proto)
    unroll(written)
    assert not {node.op_type for node in written.graph} & set(GATES)
    made, right = outputs(ir.to_proto(written)), outputs(proto)
    assert [each.shape for each in made] == [each.shape for each in right]
    return max(float(np.abs(a - b).max()) for a, b in zip(made, right, strict=True))


def main() -> None:
    results: dict[str, Any] = {}
    for direction, bias, states in itertools.product(
        ("forward", "reverse", "bidirectional"), (True, False), (True, False)
    ):
        for kind, more in (
            ("LSTM", {}),
            ("LSTM", {"holes": True}),
            ("RNN", {}),
            ("GRU", {"linear_before_reset": 0}),
            ("GRU", {"linear_before_reset": 1}),
        ):
            name = " ".join([kind, direction, *(["bias"] * bias), *(["states"] * states), str(more)])
            results[name] = difference(model(kind, direction, bias, states, **more))
    results["lengths"] = difference(model("LSTM", "forward", True, True, lengths=STEPS))
    results["usual activations"] = difference(
        model("GRU", "forward", True, True, activations=["Sigmoid", "Tanh"], linear_before_reset=1)
    )
    for kind, functions in (
        ("LSTM", ["Sigmoid", "Softsign", "Relu"]),
        ("RNN", ["Softplus"]),
        ("GRU", ["Softsign", "Sigmoid"]),
    ):
        both_ways = model(kind, "bidirectional", True, True, activations=functions + functions[::-1])
        results[f"{kind} of {functions}"] = difference(both_ways)
    for name, unusual in (
        ("other activations", {"activations": ["Elu", "Tanh", "Tanh"]}),
        ("clip", {"clip": 1.0}),
        ("shorter", {"lengths": STEPS - 1}),
    ):
        try:
            unroll(ir.from_proto(model("LSTM", "forward", True, True, **unusual)))
        except Refused as error:
            results[name] = str(error)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
