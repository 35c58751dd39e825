"""What onnx2tf 2.6.9, the release that runtime.toml pins, gets wrong on the way to a SavedModel; met from outside."""

from typing import Any, Callable

import tensorflow as tf
from onnx2tf.tflite_builder import saved_model_exporter as exporter


def meet() -> None:
    for name, kernel in _KERNELS.items():
        exporter._REGISTERED_KERNELS[name] = kernel
        exporter.SUPPORTED_KERNEL_OP_TYPES.add(name)


def _reshape(executor: Any, op: Any, env: Any) -> None:
    """With the batch left open: it writes 1 for it, or nothing where the shape is computed."""
    given = executor._resolve_tensor(op.inputs[0], env)
    told = [int(size) for size in op.options.get("newShape", ())]
    if told[:1] == [1] and -1 not in told and given.shape.num_elements() is None:
        told[0] = -1
    computed = not told and len(op.inputs) > 1
    sizes = tf.cast(executor._resolve_tensor(op.inputs[1], env), tf.int32) if computed else told
    executor._assign_outputs(op, [tf.reshape(given, sizes)], env)


def _depthwise_convolution(executor: Any, op: Any, env: Any) -> None:
    """It gives TensorFlow four dilations, which takes two, and kernels of an input's channels times the multiplier."""
    x, w, *bias = (executor._resolve_tensor(name, env) for name in op.inputs if name)
    told = [int(op.options.get(name, 1)) for name in ("strideH", "strideW", "dilationHFactor", "dilationWFactor")]
    _, height, width, outputs = w.shape
    times = int(op.options.get("depthMultiplier", 1))
    y = tf.nn.depthwise_conv2d(
        x,
        tf.reshape(w, [height, width, outputs // times, times]),
        strides=[1, *told[:2], 1],
        dilations=told[2:],
        padding=str(op.options.get("padding", "SAME")).upper(),
    )
    y = tf.nn.bias_add(y, bias[0]) if bias else y
    y = exporter._apply_fused_activation(y, str(op.options.get("fusedActivationFunction", "NONE")))
    executor._assign_outputs(op, [y], env)


def _gelu(executor: Any, op: Any, env: Any) -> None:
    """It finds GELU in the graph and has no kernel for it. tf.nn.gelu's has erfc, which TensorFlow.js lacks."""
    x = executor._resolve_tensor(op.inputs[0], env)
    if op.options.get("approximate"):
        result = tf.nn.gelu(x, approximate=True)
    else:
        result = 0.5 * x * (1.0 + tf.math.erf(x / 2.0**0.5))
    executor._assign_outputs(op, [result], env)


def _arg(find: Callable[..., Any]) -> Callable[..., None]:
    """It gives TensorFlow a vector of one axis, which takes a scalar."""

    def kernel(executor: Any, op: Any, env: Any) -> None:
        x, axis = (executor._resolve_tensor(name, env) for name in op.inputs)
        kind = tf.int32 if str(op.options.get("outputType", "INT64")).upper() == "INT32" else tf.int64
        executor._assign_outputs(op, [find(x, axis=tf.reshape(tf.cast(axis, tf.int32), []), output_type=kind)], env)

    return kernel


def _div(executor: Any, op: Any, env: Any) -> None:
    """It divides integers as floats of 64 bits; TFLite rounds toward zero, and TensorFlow.js has no such division."""
    x, y = (executor._resolve_tensor(name, env) for name in op.inputs)
    if x.dtype.is_integer:
        result = tf.sign(x) * tf.sign(y) * tf.math.floordiv(tf.abs(x), tf.abs(y))
    else:
        result = tf.math.divide(x, y)
    activation = str(op.options.get("fusedActivationFunction", "NONE"))
    executor._assign_outputs(op, [exporter._apply_fused_activation(result, activation)], env)


def _of(function: Callable[..., Any]) -> Callable[..., None]:
    """What it has no kernel for, though it writes the operator itself."""

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
    "HARD_SWISH": _of(lambda x: x * tf.nn.relu6(x + 3.0) / 6.0),
    "ROUND": _of(tf.round),
    "RSQRT": _of(tf.math.rsqrt),
    "SQUARE": _of(tf.square),
    "SQUARED_DIFFERENCE": _of(tf.math.squared_difference),
}
