"""Make wrong files that converters write with exit code 0: `PYTHON lies.py FOLDER`, in export-tf's environment.

For each NAME.tflite, NAME.npz has inputs (in_…) and the original's outputs (out_…).
"""

import glob
import sys
from pathlib import Path

sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import numpy as np  # noqa: E402
import onnx2tf  # noqa: E402
import onnxruntime  # noqa: E402
import tensorflow as tf  # noqa: E402
from ai_edge_litert.tools import flatbuffer_utils  # noqa: E402
from onnx import TensorProto, helper, numpy_helper, save  # noqa: E402

FLOAT = TensorProto.FLOAT
node, info = helper.make_node, helper.make_tensor_value_info
random = np.random.default_rng(7)


def weights(**shapes):
    return [
        numpy_helper.from_array(random.normal(0, 0.5, shape).astype(np.float32), name) for name, shape in shapes.items()
    ]


def onnx_model(root, name, nodes, inputs, outputs, initializers):
    """Write the ONNX file, and the npz of one run."""
    graph = helper.make_graph(nodes, name, [info(*i) for i in inputs], [info(*o) for o in outputs], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = root / f"{name}.onnx"
    save(model, path)
    given = {key: random.normal(size=shape).astype(np.float32) for key, _, shape in inputs}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answer(root, name, given, dict(zip([o[0] for o in outputs], session.run(None, given), strict=True)))
    return path


def answer(root, name, inputs, outputs):
    np.savez(root / name, **{f"in_{k}": v for k, v in inputs.items()}, **{f"out_{k}": v for k, v in outputs.items()})


def by_onnx2tf(root, path, wanted="float32", **options):
    """Return the file that onnx2tf writes without modelport's corrections, with names copied from the ONNX graph."""
    out = root / f"by_onnx2tf_{path.stem}_{wanted}"
    onnx2tf.convert(
        input_onnx_file_path=str(path), output_folder_path=str(out), non_verbose=True,
        copy_onnx_input_output_names_to_tflite=True, **options,
    )  # fmt: skip
    (found,) = glob.glob(f"{out}/*_{wanted}.tflite")
    return Path(found)


def two_outputs(root, name, change):
    """Write a model whose outputs onset and note have the same shape. `change` alters its signature and graph."""

    @tf.function(input_signature=[tf.TensorSpec([1, 3], tf.float32, "x")])
    def served(x):
        return {"onset": tf.sigmoid(x * 2), "note": tf.tanh(x - 1)}

    module = tf.Module()
    module.served = served
    tf.saved_model.save(module, str(root / name), signatures=served)
    path = root / f"{name}.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(root / name)).convert())
    model = flatbuffer_utils.read_model(str(path))
    change(model)
    flatbuffer_utils.write_model(model, str(path))
    x = random.normal(size=(1, 3)).astype(np.float32)
    results = served(tf.constant(x))
    # Sorted by name, as runtimes/savedmodel serves them.
    answer(root, name, {"x": x}, {key: results[key].numpy() for key in ("note", "onset")})


def swap_names(model):
    first, second = model.signatureDefs[0].outputs
    first.tensorIndex, second.tensorIndex = second.tensorIndex, first.tensorIndex


def main(root):
    dense = [node("Gemm", ["x", "w", "b"], ["y"])]
    inputs, outputs = [("x", FLOAT, [1, 6])], [("y", FLOAT, [1, 4])]
    for name, wanted in (("sound", "float32"), ("float16", "float16")):
        path = onnx_model(root, name, dense, inputs, outputs, weights(w=[6, 4], b=[4]))
        by_onnx2tf(root, path, wanted, keep_shape_absolutely_input_names=["x"]).rename(root / f"{name}.tflite")

    conv = [node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), node("Relu", ["a"], ["y"])]
    path = onnx_model(
        root, "layout", conv, [("x", FLOAT, [1, 3, 8, 12])], [("y", FLOAT, [1, 5, 8, 12])], weights(w=[5, 3, 3, 3])
    )
    by_onnx2tf(root, path, keep_shape_absolutely_input_names=["x"]).rename(root / "layout.tflite")

    ways = {
        "then_branch": helper.make_graph([node("Neg", ["x"], ["t"])], "t", [], [info("t", FLOAT, [1, 4])]),
        "else_branch": helper.make_graph([node("Exp", ["x"], ["e"])], "e", [], [info("e", FLOAT, [1, 4])]),
    }
    branch = [
        node("ReduceSum", ["x"], ["sum"], keepdims=0), node("Greater", ["sum", "zero"], ["more"]),
        node("If", ["more"], ["y"], **ways),
    ]  # fmt: skip
    zero = [numpy_helper.from_array(np.float32(0), "zero")]
    path = onnx_model(root, "custom", branch, [("x", FLOAT, [1, 4])], [("y", FLOAT, [1, 4])], zero)
    by_onnx2tf(root, path, flatbuffer_direct_allow_custom_ops=True).rename(root / "custom.tflite")

    two_outputs(root, "swapped", swap_names)
    two_outputs(root, "order", lambda model: model.signatureDefs[0].outputs.reverse())
    for name, content in (("broken", (root / "sound.tflite").read_bytes()[:200]), ("empty", b"")):
        (root / f"{name}.tflite").write_bytes(content)
        (root / f"{name}.npz").write_bytes((root / "sound.npz").read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
