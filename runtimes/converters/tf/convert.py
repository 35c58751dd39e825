"""Steps that use the converters of TensorFlow, onnx2tf and TensorFlow.js, and ONNX Runtime's quantizer."""

from modelport_converter.from_onnx import onnx_to_savedmodel, onnx_to_tflite, quantize_onnx  # noqa: F401
from modelport_converter.from_savedmodel import savedmodel_to_onnx, savedmodel_to_tflite  # noqa: F401
from modelport_converter.tfjs import savedmodel_to_tfjs  # noqa: F401
