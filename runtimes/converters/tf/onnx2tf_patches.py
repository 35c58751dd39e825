"""Replaces kernels of onnx2tf's SavedModel writer that fail or compute wrong results.

They are those of onnx2tf 2.6.9, the release that runtime.toml pins.
"""

from typing import Any, Callable

import tensorflow as tf
from onnx2tf.tflite_builder import saved_model_exporter as exporter


def apply() -> None:
    for name, kernel in _KERNELS.items():
        exporter._REGISTERED_KERNELS[name] = kernel
        exporter.SUPPORTED_KERNEL_OP_TYPES.add(name)


def _reshape(executor: Any, op: Any, env: Any) -> None:
    """Keep a dynamic batch, for which onnx2tf writes 1, and support computed shapes."""
    x = executor._resolve_tensor(op.inputs[0], env)
    shape = [int(size) for size in op.options.get("newShape", ())]
    if shape[:1] == [1] and -1 not in shape and x.shape.num_elements() is None:
        shape[0] = -1
    computed = not shape and len(op.inputs) > 1
    sizes = tf.cast(executor._resolve_tensor(op.inputs[1], env), tf.int32) if computed else shape
    executor._assign_outputs(op, [tf.reshape(x, sizes)], env)


def _depthwise_convolution(executor: Any, op: Any, env: Any) -> None:
    """TensorFlow expects two dilations and kernels of [height, width, channels, multiplier].

    onnx2tf passes four dilations, and kernels whose channels are already multiplied.
    """
    x, w, *bias = (executor._resolve_tensor(name, env) for name in op.inputs if name)
    steps = [int(op.options.get(name, 1)) for name in ("strideH", "strideW", "dilationHFactor", "dilationWFactor")]
    _, height, width, outputs = w.shape
    times = int(op.options.get("depthMultiplier", 1))
    y = tf.nn.depthwise_conv2d(
        x,
        tf.reshape(w, [height, width, outputs // times, times]),
        strides=[1, *steps[:2], 1],
        dilations=steps[2:],
        padding=str(op.options.get("padding", "SAME")).upper(),
    )
    y = tf.nn.bias_add(y, bias[0]) if bias else y
    y = exporter._apply_fused_activation(y, str(op.options.get("fusedActivationFunction", "NONE")))
    executor._assign_outputs(op, [y], env)


def _gelu(executor: Any, op: Any, env: Any) -> None:
    """onnx2tf recognizes GELU but has no kernel for it. tf.nn.gelu uses erfc, which TensorFlow.js does not support."""
    x = executor._resolve_tensor(op.inputs[0], env)
    if op.options.get("approximate"):
        result = tf.nn.gelu(x, approximate=True)
    else:
        result = 0.5 * x * (1.0 + tf.math.erf(x / 2.0**0.5))
    executor._assign_outputs(op, [result], env)


def _arg(find: Callable[..., Any]) -> Callable[..., None]:
    """onnx2tf passes the axis as a vector, and TensorFlow expects a scalar."""

    def kernel(executor: Any, op: Any, env: Any) -> None:
        x, axis = (executor._resolve_tensor(name, env) for name in op.inputs)
        kind = tf.int32 if str(op.options.get("outputType", "INT64")).upper() == "INT32" else tf.int64
        executor._assign_outputs(op, [find(x, axis=tf.reshape(tf.cast(axis, tf.int32), []), output_type=kind)], env)

    return kernel


def _div(executor: Any, op: Any, env: Any) -> None:
    """onnx2tf divides integers as FP64. TFLite rounds toward zero, which TensorFlow.js's division does not support."""
    x, y = (executor._resolve_tensor(name, env) for name in op.inputs)
    if x.dtype.is_integer:
        result = tf.sign(x) * tf.sign(y) * tf.math.floordiv(tf.abs(x), tf.abs(y))
    else:
        result = tf.math.divide(x, y)
    activation = str(op.options.get("fusedActivationFunction", "NONE"))
    executor._assign_outputs(op, [exporter._apply_fused_activation(result, activation)], env)


def _kernel(function: Callable[..., Any]) -> Callable[..., None]:
    """Return a kernel for an operator that onnx2tf emits without having one."""

    def kernel(executor: Any, op: Any, env: Any) -> None:
        executor._assign_outputs(op, [function(*(executor._resolve_tensor(name, env) for name in op.inputs))], env)

    return kernel


_KERNELS = {
    "RESHAPE": _reshape,
    "GELU": _gelu,
    "DEPTHWISE_CONV_2D": _depthwise_convolution,
    "ARG_MAX": _arg(tf.argmax),
    "ARG_MIN": _arg(tf.argmin),
    "DIV": _div,
    "HARD_SWISH": _kernel(lambda x: x * tf.nn.relu6(x + 3.0) / 6.0),
    "ROUND": _kernel(tf.round),
    "RSQRT": _kernel(tf.math.rsqrt),
    "SQUARE": _kernel(tf.square),
    "SQUARED_DIFFERENCE": _kernel(tf.math.squared_difference),
}
