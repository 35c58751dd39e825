"""Makes digit_detector, an ONNX model that finds blots of ink as large as a digit.

A digit is where the ink around a point is densest: the page is blurred with a kernel of a digit's size, and each peak
of the result that is high enough is the center of a box. Detectors such as CenterNet end in the same way.

    pip install onnx numpy; python make_detector.py
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PAGE, DIGIT = 128, 24
# The density of ink of the faintest digit, as a share of a square of its size that is all ink.
FAINTEST = 0.08


def kernel() -> np.ndarray:
    """Return a bell as wide as a digit, whose values add up to 1."""
    at = np.arange(-DIGIT, DIGIT + 1) / (DIGIT / 2.5)
    bell = np.exp(-(at**2))
    return np.outer(bell, bell) / bell.sum() ** 2


def build() -> onnx.ModelProto:
    # Two peaks of the same height, next to each other, would be two boxes: of those, the first is a little higher.
    slope = np.linspace(1e-5, 0, PAGE * PAGE, dtype=np.float32).reshape(1, 1, PAGE, PAGE)
    constants = {
        "as_image": np.array([1, 1, PAGE, PAGE], np.int64),
        "kernel": kernel()[None, None].astype(np.float32),
        "slope": slope,
        "as_page": np.array([PAGE, PAGE], np.int64),
        "faintest": np.float32(FAINTEST),
        "corners": np.array([[-1, -1, 1, 1]], np.int64) * (DIGIT // 2 + 2),
        "twice": np.array([1, 2], np.int64),
        "least": np.int64(0),
        "most": np.int64(PAGE),
    }
    nodes = [
        helper.make_node("Reshape", ["page", "as_image"], ["image"]),
        helper.make_node("Conv", ["image", "kernel"], ["blurred"], pads=[DIGIT] * 4),
        helper.make_node("Add", ["blurred", "slope"], ["density"]),
        helper.make_node("MaxPool", ["density"], ["highest"], kernel_shape=[DIGIT - 3] * 2, pads=[DIGIT // 2 - 2] * 4),
        helper.make_node("Equal", ["density", "highest"], ["is_peak"]),
        helper.make_node("Greater", ["density", "faintest"], ["is_ink"]),
        helper.make_node("And", ["is_peak", "is_ink"], ["is_center"]),
        helper.make_node("Reshape", ["is_center", "as_page"], ["centers"]),
        helper.make_node("NonZero", ["centers"], ["positions"]),
        helper.make_node("Transpose", ["positions"], ["points"], perm=[1, 0]),
        helper.make_node("Tile", ["points", "twice"], ["both"]),
        helper.make_node("Add", ["both", "corners"], ["around"]),
        helper.make_node("Clip", ["around", "least", "most"], ["boxes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "digit_detector",
        [helper.make_tensor_value_info("page", TensorProto.FLOAT, [PAGE, PAGE])],
        [helper.make_tensor_value_info("boxes", TensorProto.INT64, ["digits", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    made = build()
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, Path(__file__).parent / "repository" / "digit_detector" / "1" / "model.onnx")
