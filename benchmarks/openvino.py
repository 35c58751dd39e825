"""Times one CNN by OpenVINO and by ONNX Runtime, side by side, in FP32 on one thread.

    python -m benchmarks.openvino [--onnx FILE] [--rounds 20]

Both read the same ONNX file. Without one, it is a residual network of 17 convolutions for pictures of 112x112 pixels. A
FILE has the input x, of FP32 [n, 3, 224, 224]. They take turns, and each ratio is that of neighbors in one round. The
times are CPU time, which other programs on the machine change least.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.environments import bare
from benchmarks.report import median_and_spread, ratio, table

_SIDE, _CHANNELS, _BLOCKS = 112, 64, 8


def _model(path: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = {"w": random.normal(scale=0.1, size=(_CHANNELS, 3, 7, 7))}
    nodes = [helper.make_node("Conv", ["x", "w"], ["b0"], pads=[3, 3, 3, 3], strides=[2, 2])]
    for block in range(_BLOCKS):
        for half in (0, 1):
            weights[f"w{block}{half}"] = random.normal(scale=0.04, size=(_CHANNELS, _CHANNELS, 3, 3))
        nodes += [
            helper.make_node("Conv", [f"b{block}", f"w{block}0"], [f"c{block}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{block}"], [f"r{block}"]),
            helper.make_node("Conv", [f"r{block}", f"w{block}1"], [f"d{block}"], pads=[1, 1, 1, 1]),
            helper.make_node("Add", [f"d{block}", f"b{block}"], [f"s{block}"]),
            helper.make_node("Relu", [f"s{block}"], [f"b{block + 1}"]),
        ]
    nodes.append(helper.make_node("GlobalAveragePool", [f"b{_BLOCKS}"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", _CHANNELS, 1, 1])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", type=Path, help="an ONNX file")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, shape = arguments.onnx, (3, 224, 224)
        if path is None:
            path, shape = Path(folder, "residual.onnx"), (3, _SIDE, _SIDE)
            _model(path)
        rows = []
        with bare("openvino", path, shape) as ours, bare("onnx", path, shape) as theirs:
            for count in (1, 8):
                times = max(8 // count, 1)
                measured = [
                    [each.seconds(count, times)[0] / times * 1e3 for each in (ours, theirs)]
                    for _ in range(arguments.rounds)
                ]
                one, other = map(list, zip(*measured, strict=True))
                rows.append([str(count), median_and_spread(one), median_and_spread(other), ratio(one, other)])
    print(table(["rows", "OpenVINO ms", "ONNX Runtime ms", "ratio"], rows))


if __name__ == "__main__":
    main()
