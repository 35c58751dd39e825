"""The measured models. They are generated when needed, so none is stored in the repository."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def tiny_mlp(path: Path) -> None:
    """16 → 32 → 4, float32, dynamic batch: a few microseconds per row, so that all other costs are visible."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(16, 32)), "b1": np.zeros(32),
        "w2": random.normal(size=(32, 4)), "b2": np.zeros(4),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"]),
    ]
    _save(path, nodes, {key: value.astype(np.float32) for key, value in weights.items()}, [16], [4])


def identity(path: Path, datatype: int, width: int) -> None:
    """`width` elements per row → the same, dynamic batch. datatype: of onnx.TensorProto, such as INT64 or STRING."""
    rows = ["n", width]
    _save_graph(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", datatype, rows)],
        [helper.make_tensor_value_info("y", datatype, rows)],
        [],
    )


def sum_of_three(path: Path, width: int) -> None:
    """a, b, c → a + b + c, float32, `width` elements per row, dynamic batch."""
    rows = ["n", width]
    _save_graph(
        path,
        [helper.make_node("Add", ["a", "b"], ["ab"]), helper.make_node("Add", ["ab", "c"], ["y"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, rows) for name in ("a", "b", "c")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, rows)],
        [],
    )


def residual_network(path: Path, width: int = 64) -> None:
    """ResNet-18's layers (width 64) with random weights: 3x224x224 → 1000, float32, dynamic batch."""
    random = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []

    def convolve(name: str, source: str, out_of: int, into: int, size: int, stride: int) -> str:
        scale = np.sqrt(2 / (out_of * size * size))
        weights[f"{name}.w"] = (random.normal(size=(into, out_of, size, size)) * scale).astype(np.float32)
        weights[f"{name}.b"] = np.zeros(into, np.float32)
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"{name}.w", f"{name}.b"],
                [name],
                kernel_shape=[size, size],
                strides=[stride, stride],
                pads=[size // 2] * 4,
            )
        )
        return name

    def relu(source: str) -> str:
        nodes.append(helper.make_node("Relu", [source], [f"{source}.relu"]))
        return f"{source}.relu"

    layer = relu(convolve("stem", "x", 3, width, 7, 2))
    nodes.append(helper.make_node("MaxPool", [layer], ["pool"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
    layer, channels = "pool", width
    for stage in range(4):
        for block in range(2):
            into, stride = width << stage, 2 if stage and not block else 1
            name = f"s{stage}b{block}"
            inner = relu(convolve(f"{name}c1", layer, channels, into, 3, stride))
            inner = convolve(f"{name}c2", inner, into, into, 3, 1)
            short = layer if channels == into else convolve(f"{name}short", layer, channels, into, 1, stride)
            nodes.append(helper.make_node("Add", [inner, short], [f"{name}sum"]))
            layer, channels = relu(f"{name}sum"), into
    nodes.append(helper.make_node("GlobalAveragePool", [layer], ["average"]))
    nodes.append(helper.make_node("Flatten", ["average"], ["flat"]))
    weights["fc.w"] = (random.normal(size=(channels, 1000)) / np.sqrt(channels)).astype(np.float32)
    weights["fc.b"] = np.zeros(1000, np.float32)
    nodes.append(helper.make_node("Gemm", ["flat", "fc.w", "fc.b"], ["y"]))
    _save(path, nodes, weights, [3, 224, 224], [1000])


def convolutions(path: Path, layers: int = 96, width: int = 64) -> None:
    """1x8x8 → `width`, float32, dynamic batch: 5 ms of arithmetic per row, all of it within a core's own cache."""
    random = np.random.default_rng(0)
    weights = {
        "w0": random.normal(size=(width, 1, 3, 3)) / 3,
        "w": random.normal(size=(width, width, 3, 3)) * np.sqrt(2 / (width * 9)),
    }
    nodes, layer = [], "x"
    for number in range(layers):
        weight = "w" if number else "w0"
        nodes.append(helper.make_node("Conv", [layer, weight], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        layer = f"r{number}"
    nodes.append(helper.make_node("GlobalAveragePool", [layer], ["average"]))
    nodes.append(helper.make_node("Flatten", ["average"], ["y"]))
    _save(path, nodes, {key: value.astype(np.float32) for key, value in weights.items()}, [1, 8, 8], [width])


def channel_means(path: Path, side: int) -> None:
    """3 x side x side → the mean of each channel, float32, dynamic batch: next to nothing for an image."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["average"]),
        helper.make_node("Flatten", ["average"], ["y"]),
    ]
    _save(path, nodes, {}, [3, side, side], [3])


def _save(
    path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], takes: list[int], gives: list[int]
) -> None:
    _save_graph(
        path,
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *takes])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", *gives])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )


def _save_graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
