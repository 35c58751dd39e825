"""TensorFlow's, onnx2tf's and TensorFlow.js's converters, and ONNX Runtime's quantiser."""

from modelport_converter.from_onnx import onnx_to_savedmodel, onnx_to_tflite, quantize_onnx  # noqa: F401
from modelport_converter.from_savedmodel import savedmodel_to_onnx, savedmodel_to_tflite  # noqa: F401
from modelport_converter.tfjs import savedmodel_to_tfjs  # noqa: F401
