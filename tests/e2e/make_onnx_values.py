"""Make ONNX models whose inputs and outputs are not all tensors with rows: `PYTHON make_onnx_values.py REPOSITORY`.

For a Python with onnx and onnxruntime. Writes what ONNX Runtime answers, as JSON, to standard output.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
X = np.array([[1.5, -2], [0.1, 3]], np.float32)
SETS = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
TENSOR = helper.make_tensor_type_proto(FLOAT, None)


def value(name, kind):
    found = onnx.ValueInfoProto(name=name)
    found.type.CopyFrom(kind)
    return found


def tensor(name, kind=FLOAT, shape=("n", 2)):
    return helper.make_tensor_value_info(name, kind, shape)


def classifier(keys):
    """What scikit-learn's converters write: labels, and a sequence with a map of probabilities for each row."""
    strings = isinstance(keys[0], str)
    scores = {
        "coefficients": [0.5, -1, 1, 0.25, -0.75, 0.5],
        "intercepts": [0.1, 0.2, -0.3],
        "post_transform": "SOFTMAX",
    }
    labels = {"classlabels_strings" if strings else "classlabels_int64s": keys}
    scores["classlabels_strings" if strings else "classlabels_ints"] = keys
    nodes = [
        helper.make_node("LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", **scores),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", **labels),
    ]
    kind = TensorProto.STRING if strings else INT64
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(kind, helper.make_tensor_type_proto(FLOAT, [])))
    return nodes, [tensor("x")], [tensor("label", kind, ["n"]), value("probabilities", maps)], []


def nested():
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("SplitToSequence", ["x"], ["columns"], axis=1),
        helper.make_node("SequenceEmpty", [], ["nothing"], dtype=FLOAT),
        helper.make_node("Optional", ["columns"], ["maybe"]),
        helper.make_node("Optional", [], ["absent"], type=TENSOR),
    ]
    outputs = [
        tensor("y"),
        value("columns", helper.make_sequence_type_proto(TENSOR)),
        value("nothing", helper.make_sequence_type_proto(TENSOR)),
        value("maybe", helper.make_optional_type_proto(helper.make_sequence_type_proto(TENSOR))),
        value("absent", helper.make_optional_type_proto(TENSOR)),
    ]
    return nodes, [tensor("x")], outputs, []


def only_sequence():
    nodes, inputs, outputs, weights = nested()
    return nodes[1:2], inputs, outputs[1:2], weights


def overridable():
    weight = helper.make_tensor("w", FLOAT, [2], [2, 3])
    return [helper.make_node("Mul", ["x", "w"], ["y"])], [tensor("x"), tensor("w", shape=[2])], [tensor("y")], [weight]


def optional():
    """y = x + (bias, if it is given, else 1)."""
    given = helper.make_graph(
        [helper.make_node("OptionalGetElement", ["bias"], ["a"])], "given", [], [tensor("a", shape=None)]
    )
    one = helper.make_node("Constant", [], ["b"], value=helper.make_tensor("one", FLOAT, [1], [1]))
    absent = helper.make_graph([one], "absent", [], [tensor("b", shape=None)])
    nodes = [
        helper.make_node("OptionalHasElement", ["bias"], ["has"]),
        helper.make_node("If", ["has"], ["added"], then_branch=given, else_branch=absent),
        helper.make_node("Add", ["x", "added"], ["y"]),
    ]
    bias = value("bias", helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2])))
    return nodes, [tensor("x"), bias], [tensor("y")], []


def sequence_input():
    node = helper.make_node("ConcatFromSequence", ["parts"], ["y"], axis=0)
    return [node], [value("parts", helper.make_sequence_type_proto(TENSOR))], [tensor("y")], []


MODELS = {
    "classifier": (classifier([0, 1, 2]), [{"x": X}]),
    "words": (classifier(["a", "b", "ü"]), [{"x": X}]),
    "nested": (nested(), [{"x": X}]),
    "only_sequence": (only_sequence(), [{"x": X}]),
    "overridable": (overridable(), [{"x": X}, {"x": X, "w": np.array([-1, 0.5], np.float32)}]),
    "declared": (overridable(), [{"x": X}, {"x": X, "w": np.array([-1, 0.5], np.float32)}]),
    "optional": (optional(), [{"x": X}, {"x": X, "bias": np.array([7, 8], np.float32)}]),
    "sequence_input": (sequence_input(), []),
}


def as_json(found):
    if isinstance(found, dict):
        return {str(key): as_json(each) for key, each in found.items()}
    if isinstance(found, list):
        return [as_json(each) for each in found]
    return found.tolist() if isinstance(found, np.ndarray) else found


def main(repository):
    expected = {}
    for name, ((nodes, inputs, outputs, weights), asked) in MODELS.items():
        graph = helper.make_graph(nodes, name, inputs, outputs, weights)
        model = helper.make_model(graph, opset_imports=SETS, ir_version=8)
        onnx.checker.check_model(model)
        path = Path(repository, name, "1", "model.onnx")
        path.parent.mkdir(parents=True)
        onnx.save(model, str(path))
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_outputs()]
        expected[name] = [
            {"inputs": as_json(feed), "outputs": dict(zip(names, as_json(session.run(None, feed)), strict=True))}
            for feed in asked
        ]
    json.dump(expected, sys.stdout)


main(sys.argv[1])
