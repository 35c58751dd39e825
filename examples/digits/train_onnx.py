"""A multi-layer perceptron, trained with scikit-learn and converted to an ONNX graph by hand.

ONNX is a format and cannot train. Whatever trained a network, in ONNX its layers are nodes and its weights are
constants.
"""

import data
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.neural_network import MLPClassifier


def build(model: MLPClassifier) -> onnx.ModelProto:
    nodes = [helper.make_node("Div", ["image", "sixteen"], ["layer0"])]
    constants = [numpy_helper.from_array(np.float32(16), "sixteen")]
    for index, (weight, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        names = f"weight{index}", f"bias{index}"
        constants += [
            numpy_helper.from_array(array.astype(np.float32), name)
            for array, name in zip((weight, bias), names, strict=True)
        ]
        last = index == len(model.coefs_) - 1
        nodes.append(helper.make_node("Gemm", [f"layer{index}", *names], [f"sum{index}"]))
        kind, out = ("Softmax", "scores") if last else ("Relu", f"layer{index + 1}")
        nodes.append(helper.make_node(kind, [f"sum{index}"], [out]))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    import onnxruntime

    digits = data.load()
    model = MLPClassifier((64, 32), max_iter=300, random_state=0)
    model.fit(digits.train_image / 16, digits.train_label)
    path = data.version_folder("digits_onnx") / "model.onnx"
    onnx.checker.check_model(build(model))
    onnx.save(build(model), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    data.record("digits_onnx", session.run(["scores"], {"image": digits.heldout_image})[0])


if __name__ == "__main__":
    main()
