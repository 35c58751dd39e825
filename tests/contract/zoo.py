"""The real models of the zoo that the contract suite runs, with their cases.

No files of the zoo are copied here. `rename` maps the zoo's output names to those that are served, and
leaves out the others. `rename_inputs` maps its input names.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

NOTHING: Mapping[str, Any] = MappingProxyType({})


class ZooCase(NamedTuple):
    runtime: str
    folder: str
    artifact: str
    case: Mapping[str, Any] = NOTHING
    extra_inputs: Mapping[str, int] = NOTHING
    rename: Mapping[str, str] = NOTHING
    rename_inputs: Mapping[str, str] = NOTHING


def half_plus(folder: str, version: str = "00000123") -> ZooCase:
    return ZooCase("savedmodel", f"savedmodel/saved_model_half_plus_{folder}", version)


CASES = [
    ZooCase("onnx", "onnx/sigmoid", "sigmoid.onnx"),
    ZooCase("onnx", "onnx/logreg_iris", "logreg_iris.onnx", {"refused": ["probabilities"]}, rename={"label": "label"}),
    ZooCase("onnx", "onnx/mnist-cntk-2.5.1-ortexamples", "mnist.onnx"),
    ZooCase("onnx", "onnx/basic-pitch-nmp", "nmp.onnx"),
    # The batch is the state's second dimension, so rows cannot be joined along the first.
    ZooCase("onnx", "onnx/silero_vad_16k_op15", "silero_vad_16k_op15.onnx", {"not_batchable": True}),
    ZooCase("onnx", "negative", "onnx-cntk2.4-rejected-by-ort.onnx", {"load_error": True}),
    # The expected output is that of the first call, and the suite's first call is `check_infer`.
    ZooCase(
        "torchscript",
        "torchscript/silero_vad",
        "silero_vad.jit",
        {"stateful": True},
        {"sr": 16000},
        {"out_first_call": "OUTPUT__0"},
    ),
    half_plus("two_cpu"),
    half_plus("two_2_versions"),
    half_plus("two_2_versions_v124", "00000124"),
    half_plus("three"),
    ZooCase("savedmodel", "savedmodel/basic-pitch-nmp", "nmp"),
    ZooCase("mxnet", "mxnet/go_test", "go_test-symbol.json"),
    ZooCase("mxnet", "mxnet/sagemaker-linreg", "model-symbol.json"),
    ZooCase("mxnet", "mxnet/sagemaker-mnist-mlp", "model-symbol.json"),
    # The zoo uses the tensors' names; the served model uses the signature's.
    ZooCase(
        "tflite",
        "tflite/basic-pitch-nmp",
        "nmp.tflite",
        rename={f"StatefulPartitionedCall:{n}": name for n, name in enumerate(("contour", "note", "onset"))},
        rename_inputs={"serving_default_input_2:0": "input_2"},
    ),
    ZooCase("tflite", "tflite/saved_model_half_plus_two_tflite_with_sigdef", "model.tflite"),
    ZooCase("tflite", "negative", "tflite-needs-ParseExampleV2.tflite", {"load_error": True}),
]
