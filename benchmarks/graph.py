"""The cost of analyzing a large ONNX graph when a model is loaded.

    python -m benchmarks.graph [NODES]

A chain of MatMul, Add, Relu and Mul with constants, 100,000 nodes by default, is written to a file and analyzed as a
worker does it: reading the file, batch analysis, and input ranges. CPU time is measured, so other work of the machine
does not count.
"""

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.report import table
from runtimes.contract import Signature, TensorSpec
from runtimes.onnx.analysis.file import of_file
from runtimes.onnx.analysis.ranges import input_ranges
from runtimes.onnx.analysis.read import analyze


def chain(count: int) -> bytes:
    """Return the model as bytes."""
    nodes, constants, last = [], [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")], "x"
    for place in range(count // 4):
        for operator, others in (("MatMul", ["w"]), ("Add", [f"add{place}"]), ("Relu", []), ("Mul", [f"mul{place}"])):
            output = f"/layers/{place}/{operator}_output_0"
            nodes.append(helper.make_node(operator, [last, *others], [output], f"/layers/{place}/{operator}"))
            last = output
        constants += [numpy_helper.from_array(np.ones(4, np.float32), f"{name}{place}") for name in ("add", "mul")]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", last))
    graph = helper.make_graph(nodes, "chain", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nodes", type=int, nargs="?", default=100_000)
    count = parser.parse_args().nodes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(chain(count))
        times = [time.process_time()]
        graph = of_file(str(path))
        times.append(time.process_time())
        outputs = tuple(TensorSpec(name) for name in graph.graph.outputs)
        found = analyze(graph, Signature((TensorSpec("x"),), outputs))
        times.append(time.process_time())
        input_ranges(graph)
        times.append(time.process_time())
    assert found.independent, found
    steps = [after - before for before, after in pairwise(times)]
    rows = [[step, f"{seconds:.2f}"] for step, seconds in zip(["read", "rows", "ranges"], steps, strict=True)]
    print(f"{count} nodes")
    print(table(["step", "CPU seconds"], [*rows, ["together", f"{sum(steps):.2f}"]]))


if __name__ == "__main__":
    main()
