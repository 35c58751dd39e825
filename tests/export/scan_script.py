"""Compare unrolled Scans with ONNX Runtime's, in export-tf's environment. Print name → largest difference."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[2]))
from runtimes.converters.tf.scans import unroll

STEPS, BATCH, SIZE = 5, 3, 4


def floats(name: str, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def model(axis: int, backwards: bool, steps: Any = STEPS, nested: bool = False) -> onnx.ModelProto:
    """Return a Scan with two sequences, a state, a value of the outer graph and a constant in the body. It outputs two
    sequences and a state."""
    half = numpy_helper.from_array(np.float32([0.5]), "half")
    add = helper.make_node("Add", ["scaled", "y"], ["next"])
    body = [
        helper.make_node("MatMul", ["h", "w"], ["turned"]),
        helper.make_node("Add", ["turned", "x"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["new"]),
        helper.make_node("Mul", ["new", "half"], ["scaled"]),
        add,
    ]
    if nested:
        branch = helper.make_graph([add], "branch", [], [floats("next", BATCH, SIZE)])
        body[-1] = helper.make_node("If", ["yes"], ["other"], then_branch=branch, else_branch=branch)
        body.append(helper.make_node("Identity", ["other"], ["next"]))
    step = helper.make_graph(
        body,
        "step",
        [floats(name, BATCH, SIZE) for name in ("h", "x", "y")],
        [floats("new", BATCH, SIZE), floats("scaled", BATCH, SIZE), floats("next", BATCH, SIZE)],
        [half],
    )
    scan = helper.make_node(
        "Scan", ["start", "a", "b"], ["last", "p", "q"], body=step, num_scan_inputs=2,
        scan_input_axes=[axis, axis - 3], scan_output_axes=[axis, 0],
        scan_input_directions=[int(backwards), 0], scan_output_directions=[0, int(backwards)],
    )  # fmt: skip
    shape = [BATCH, SIZE]
    shape.insert(axis, steps)
    random = np.random.default_rng(3)
    weights = numpy_helper.from_array(random.normal(size=(SIZE, SIZE)).astype(np.float32), "w")
    yes = numpy_helper.from_array(np.array(True), "yes")
    graph = helper.make_graph(
        [scan],
        "g",
        [floats("start", BATCH, SIZE), floats("a", *shape), floats("b", *shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("last", "p", "q")],
        [weights, yes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outputs(made: onnx.ModelProto, axis: int) -> list[np.ndarray]:
    random, shape = np.random.default_rng(8), [BATCH, SIZE]
    shape.insert(axis, STEPS)
    given = {"start": random.normal(size=(BATCH, SIZE)), "a": random.normal(size=shape), "b": random.normal(size=shape)}
    session = onnxruntime.InferenceSession(made.SerializeToString())
    return session.run(None, {name: array.astype(np.float32) for name, array in given.items()})


def main() -> None:
    results: dict[str, Any] = {}
    for axis, backwards in itertools.product((0, 1, 2), (False, True)):
        right = outputs(model(axis, backwards), axis)
        made = unroll(model(axis, backwards))
        assert "Scan" not in {node.op_type for node in made.graph.node}
        found = outputs(made, axis)
        assert [each.shape for each in found] == [each.shape for each in right]
        results[f"axis {axis} {backwards}"] = max(float(np.abs(a - b).max()) for a, b in zip(found, right, strict=True))
    for name, left in {
        "open": model(1, False, "T"),
        "long": model(1, False, 257),
        "nested": model(1, False, nested=True),
    }.items():
        results[name] = [node.op_type for node in unroll(left).graph.node]
    print(json.dumps(results))


if __name__ == "__main__":
    main()
