"""The models that the examples of Triton's clients expect, made of ONNX."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def add_simple(repository: Path) -> None:
    """`simple`: OUTPUT0 = INPUT0 + INPUT1 and OUTPUT1 = INPUT0 - INPUT1, INT32 of [1, 16]."""
    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    _save(repository, "simple", nodes, TensorProto.INT32)


def add_simple_string(repository: Path) -> None:
    """`simple_string`: the same of numbers that are written as strings."""
    nodes = [
        *(helper.make_node("Cast", [f"INPUT{k}"], [f"number{k}"], to=TensorProto.INT32) for k in (0, 1)),
        helper.make_node("Add", ["number0", "number1"], ["sum"]),
        helper.make_node("Sub", ["number0", "number1"], ["difference"]),
        helper.make_node("Cast", ["sum"], ["OUTPUT0"], to=TensorProto.STRING),
        helper.make_node("Cast", ["difference"], ["OUTPUT1"], to=TensorProto.STRING),
    ]
    _save(repository, "simple_string", nodes, TensorProto.STRING)


def add_simple_identity(repository: Path) -> None:
    """`simple_identity`: OUTPUT0 = INPUT0, strings of [-1, -1]."""
    nodes = [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])]
    _save(repository, "simple_identity", nodes, TensorProto.STRING, ["n", "m"])


def _save(
    repository: Path, name: str, nodes: list[onnx.NodeProto], kind: int, shape: list[int | str] | None = None
) -> None:
    used, made = {each for node in nodes for each in node.input}, {each for node in nodes for each in node.output}
    inputs, outputs = (
        [helper.make_tensor_value_info(each, kind, shape or ["n", 16]) for each in sorted(names)]
        for names in (used - made, made - used)
    )
    graph = helper.make_graph(nodes, name, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    file = repository / name / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    onnx.save(model, file)


# Bytes of an image file → pixels. PPM needs no library: a header of three lines, then the bytes of each pixel.
_DECODER = """
import io
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            files = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
            images = np.stack([self.decode(file) for [file] in files])
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", images)]))
        return responses

    def decode(self, file):
        kind, width, height, largest, pixels = file.split(maxsplit=4)
        image = np.frombuffer(pixels, np.uint8, int(width) * int(height) * 3).reshape(int(height), int(width), 3)
        rows, columns = (np.arange(299) * int(size) // 299 for size in (height, width))
        return image[rows][:, columns].astype(np.float32) / 255
"""
_DECODER_CONFIG = """
backend: "python"
max_batch_size: 128
input [ { name: "INPUT" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 299, 299, 3 ] } ]
"""
_CLASSIFIER_CONFIG = """
platform: "onnxruntime_onnx"
max_batch_size: 128
input [ { name: "input" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [ 299, 299, 3 ] } ]
output [
  { name: "InceptionV3/Predictions/Softmax" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" }
]
"""
_ENSEMBLE_CONFIG = """
platform: "ensemble"
max_batch_size: 128
input [ { name: "INPUT" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 3 ] } ]
ensemble_scheduling {
  step [
    {
      model_name: "decoder" model_version: -1
      input_map { key: "INPUT" value: "INPUT" }
      output_map { key: "OUTPUT" value: "pixels" }
    },
    {
      model_name: "classifier" model_version: -1
      input_map { key: "input" value: "pixels" }
      output_map { key: "InceptionV3/Predictions/Softmax" value: "OUTPUT" }
    }
  ]
}
"""


def add_image_ensemble(repository: Path) -> None:
    """`preprocess_inception_ensemble`: image files, BYTES of [-1, 1] → how red, green and blue they are.

    Its steps are a decoder in Python and a classifier in ONNX, which has the labels.
    """
    for name, text in {
        "decoder": _DECODER_CONFIG,
        "classifier": _CLASSIFIER_CONFIG,
        "preprocess_inception_ensemble": _ENSEMBLE_CONFIG,
    }.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(text)
    (repository / "decoder" / "1" / "model.py").write_text(_DECODER)
    (repository / "classifier" / "labels.txt").write_text("red\ngreen\nblue\n")
    output = "InceptionV3/Predictions/Softmax"
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["input"], ["means"], axes=[1, 2], keepdims=0),
            helper.make_node("Softmax", ["means"], [output], axis=1),
        ],
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 299, 299, 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, repository / "classifier" / "1" / "model.onnx")
