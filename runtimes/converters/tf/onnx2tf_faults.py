"""What onnx2tf 2.6.9, the release that runtime.toml pins, gets wrong on the way to a SavedModel; met from outside."""

from typing import Any

import tensorflow as tf
from onnx2tf.tflite_builder import saved_model_exporter as exporter


def meet() -> None:
    exporter._REGISTERED_KERNELS.update(RESHAPE=_reshape, GELU=_gelu)
    exporter.SUPPORTED_KERNEL_OP_TYPES.add("GELU")


def _reshape(executor: Any, op: Any, env: Any) -> None:
    """By its second input, where the option is empty: that of a shape which depends on the batch."""
    sizes = tf.constant([int(size) for size in op.options.get("newShape", ())], tf.int32)
    if not len(sizes) and len(op.inputs) > 1:
        sizes = tf.cast(executor._resolve_tensor(op.inputs[1], env), tf.int32)
    result = tf.reshape(executor._resolve_tensor(op.inputs[0], env), sizes)
    executor._assign_outputs(op, [result], env)


def _gelu(executor: Any, op: Any, env: Any) -> None:
    """It finds GELU in the graph and has no kernel for it. tf.nn.gelu's has erfc, which TensorFlow.js lacks."""
    x = executor._resolve_tensor(op.inputs[0], env)
    if op.options.get("approximate"):
        result = tf.nn.gelu(x, approximate=True)
    else:
        result = 0.5 * x * (1.0 + tf.math.erf(x / 2.0**0.5))
    executor._assign_outputs(op, [result], env)
