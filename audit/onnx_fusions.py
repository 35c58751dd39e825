"""Generates random ONNX graphs with the patterns that ONNX Runtime's optimizers fuse, fold or remove.

Each step maps an image [batch, channels, height, width] to another. Constants are often negative or zero, because a
fusion may be correct for ordinary weights only.
"""

from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, TensorProto

from audit.onnx_graphs import FLOAT, Builder, Value, batch_normalised

Step = tuple[int, tuple[str, ...], ModelProto]


def grown(x: Value, by: int, channels: int = 0) -> Value:
    return Value(x.name, (channels or x.sizes[0], x.sizes[1] + by, x.sizes[2] + by))


def pad(b: Builder, x: Value) -> Value:
    value = b.random.choice([[], [0.0], [-1.0], [0.5], [float("-inf")]])
    mode = b.random.choice(["constant", "constant", "edge", "reflect"])
    low, high = b.random.choice([(1, 1), (0, 1), (1, 0), (0, 2)])
    values = [b.float(each) for each in value] if mode == "constant" else []
    name = b.op("Pad", x.name, b.ints(0, 0, low, low, 0, 0, high, high), *values, mode=mode)
    return grown(Value(name, x.sizes), low + high)


def conv(b: Builder, x: Value) -> Value:
    groups = b.random.choice([1, 1, x.sizes[0]])
    out = x.sizes[0] * b.random.choice([1, 2]) if x.sizes[0] < 8 else x.sizes[0]
    side = b.random.choice([0, 1])
    inputs = [x.name, b.weight(out, x.sizes[0] // groups, 3, 3)] + ([b.weight(out)] if b.random.random() < 0.6 else [])
    name = b.op("Conv", *inputs, pads=[side] * 4, group=groups)
    return grown(Value(name, x.sizes), 2 * side - 2, out)


def pool(b: Builder, x: Value) -> Value:
    kind, side = b.random.choice(["MaxPool", "AveragePool", "LpPool"]), b.random.choice([0, 1])
    counts = {"count_include_pad": b.random.choice([0, 1])} if kind == "AveragePool" else {}
    name = b.op(kind, x.name, kernel_shape=[3, 3], strides=[1, 1], pads=[side] * 4, **counts)
    return grown(Value(name, x.sizes), 2 * side - 2)


def activation(b: Builder, x: Value) -> Value:
    kind = b.random.choice(["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Elu", "Clip", "PRelu", "Swish"])
    if kind == "Swish":
        return Value(b.op("Mul", x.name, b.op("Sigmoid", x.name)), x.sizes)
    if kind == "Clip":
        low, high = b.random.choice([(0.0, 6.0), (-1.0, 1.0), (-6.0, 0.0), (0.5, 2.0)])
        return Value(b.op("Clip", x.name, b.float(low), b.float(high)), x.sizes)
    return Value(b.op(kind, x.name, *([b.weight(x.sizes[0], 1, 1)] if kind == "PRelu" else [])), x.sizes)


def clipped_relu(b: Builder, x: Value) -> Value:
    """Apply Relu and Clip in either order. A fusion must not lose bounds below zero."""
    low, high = b.float(b.random.choice([-2.0, 0.0, 0.3])), b.float(b.random.choice([0.2, 6.0]))
    if b.random.random() < 0.5:
        return Value(b.op("Clip", b.op("Relu", x.name), low, high), x.sizes)
    return Value(b.op("Relu", b.op("Clip", x.name, low, high)), x.sizes)


def scaled(b: Builder, x: Value) -> Value:
    """Combine with one number per channel, one number for all, or a number that may have no effect."""
    other = b.random.choice([b.weight(x.sizes[0], 1, 1), b.float(1.0), b.float(0.0), b.float(-2.0), b.weight(1)])
    return Value(b.op(b.random.choice(["Mul", "Add", "Sub", "Div"]), x.name, other), x.sizes)


def sum_of_two(b: Builder, x: Value) -> Value:
    out = b.op("Conv", x.name, b.weight(x.sizes[0], x.sizes[0], 1, 1), b.weight(x.sizes[0]))
    out = b.op("Add", *b.random.choice([(out, x.name), (x.name, out), (out, out)]))
    return Value(b.op("Relu", out) if b.random.random() < 0.6 else out, x.sizes)


def gelu(b: Builder, x: Value) -> Value:
    half, kind = b.float(0.5), b.random.choice(["erf", "tanh", "quick"])
    if kind == "quick":
        return Value(b.op("Mul", x.name, b.op("Sigmoid", b.op("Mul", x.name, b.float(1.702)))), x.sizes)
    if kind == "erf":
        divisor = b.float(b.random.choice([1.4142135, 1.4142135, 1.5]))  # 1.5 does not make a Gelu
        gate = b.op("Erf", b.op("Div", x.name, divisor))
    else:
        cube = b.op("Mul", b.op("Pow", x.name, b.float(3.0)), b.float(b.random.choice([0.044715, 0.1])))
        gate = b.op("Tanh", b.op("Mul", b.op("Add", x.name, cube), b.float(0.7978845)))
    gate = b.op("Add", gate, b.float(1.0))
    if b.random.random() < 0.5:
        return Value(b.op("Mul", b.op("Mul", x.name, gate), half), x.sizes)
    return Value(b.op("Mul", b.op("Mul", x.name, half), gate), x.sizes)


def layer_norm(b: Builder, x: Value) -> Value:
    """Spell out a layer normalization, sometimes after a sum as in transformers, or without subtracting the mean."""
    axes = b.random.choice([[-1], [-1], [2, 3], [1]])
    value = b.op("Add", x.name, b.weight(x.last)) if b.random.random() < 0.4 else x.name
    less = b.op("Sub", value, b.op("ReduceMean", value, axes=axes)) if b.random.random() < 0.8 else value
    spread = b.op("Sqrt", b.op("Add", b.op("ReduceMean", b.op("Pow", less, b.float(2.0)), axes=axes), b.float(1e-3)))
    out = b.op("Mul", b.op("Div", less, spread), b.weight(x.last))
    return Value(b.op("Add", out, b.weight(x.last)), x.sizes)


def product(b: Builder, x: Value) -> Value:
    """Apply MatMul and Add, sometimes with a transposed operand or after a scaling."""
    left = b.op("Mul", x.name, b.float(-0.5)) if b.random.random() < 0.4 else x.name
    right = b.weight(x.last, x.last)
    right = b.op("Transpose", right, perm=[1, 0]) if b.random.random() < 0.4 else right
    if b.random.random() < 0.4:
        right = b.op("Transpose", x.name, perm=[0, 1, 3, 2])
        if x.sizes[1] != x.sizes[2]:
            return x
    return Value(b.op("Add", b.op("MatMul", left, right), b.weight(x.last)), x.sizes)


def transposes(b: Builder, x: Value) -> Value:
    there, back = b.random.choice([([0, 2, 3, 1], [0, 3, 1, 2]), ([0, 3, 1, 2], [0, 2, 3, 1])])
    inner = b.op("Transpose", x.name, perm=there)
    kind = b.random.choice(["Relu", "Softmax", "ReduceMax", "Add", "Concat", "Slice", "Cast"])
    if kind in ("Relu", "Softmax"):
        inner = b.op(kind, inner, **({"axis": b.random.choice([1, -1])} if kind == "Softmax" else {}))
    if kind == "ReduceMax":
        inner = b.op("Sub", inner, b.op(kind, inner, axes=[b.random.choice([1, 2, 3])], keepdims=1))
    if kind == "Add":
        inner = b.op(kind, inner, b.op("Transpose", b.op("Neg", x.name), perm=there))
    if kind == "Concat":
        inner = b.op("Slice", b.op(kind, inner, inner, axis=0), b.ints(1), b.ints(2**40), b.ints(0))
        inner = b.op("Slice", inner, b.ints(0), b.op("Slice", b.op("Shape", x.name), b.ints(0), b.ints(1)), b.ints(0))
    if kind == "Slice":
        inner = b.op("Slice", inner, b.ints(-1), b.ints(-(2**40)), b.ints(b.random.choice([1, 2, 3])), b.ints(-1))
    if kind == "Cast":
        inner = b.op("Cast", b.op("Cast", inner, to=b.random.choice(NARROW)), to=FLOAT)
    return Value(b.op("Transpose", inner, perm=back), x.sizes)


NARROW = [TensorProto.INT32, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL]


def casts(b: Builder, x: Value) -> Value:
    """Cast to narrow types and back. The optimizer must not restore the precision that a cast loses."""
    first, second = b.random.choice(NARROW), b.random.choice([FLOAT, *NARROW])
    return Value(b.op("Cast", b.op("Cast", b.op("Cast", x.name, to=first), to=second), to=FLOAT), x.sizes)


def quantized_pair(b: Builder, x: Value) -> Value:
    """Quantize and dequantize, with random scales, before and after an operator that may move or clip values."""
    kind = b.random.choice([np.uint8, np.int8])

    def pair(name: str) -> str:
        scale = b.float(b.random.choice([0.05, 0.02, 0.5]))
        zero = b.constant(np.array(b.random.choice([0, 3, 100]), kind))
        return b.op("DequantizeLinear", b.op("QuantizeLinear", name, scale, zero), scale, zero)

    middle = b.random.choice(["", "Relu", "MaxPool", "Reshape", "Sigmoid", "Conv", "Clip"])
    value = pair(x.name)
    if middle == "MaxPool":
        value = b.op(middle, value, kernel_shape=[3, 3], pads=[1] * 4)
    elif middle == "Reshape":
        value = b.op("Reshape", b.op("Flatten", value), b.op("Shape", x.name))
    elif middle == "Clip":
        value = b.op(middle, value, b.float(0.0), b.float(1.0))
    elif middle == "Conv":
        value = b.op(middle, value, pair(b.weight(x.sizes[0], x.sizes[0], 3, 3)), pads=[1] * 4)
    elif middle:
        value = b.op(middle, value)
    return Value(pair(value), x.sizes)


def chosen(b: Builder, x: Value) -> Value:
    flags = b.op(b.random.choice(["Greater", "Less"]), x.name, b.float(0.0))
    flags = b.op("Not", flags) if b.random.random() < 0.7 else flags
    return Value(b.op("Where", flags, x.name, b.op("Mul", x.name, b.float(-0.3))), x.sizes)


def nothing_done(b: Builder, x: Value) -> Value:
    """Apply an operator that has no effect, or that only appears to have none."""
    kind = b.random.choice(["Slice", "Concat", "Gather", "ReduceSum", "Dropout", "Expand", "Reshape", "Unsqueeze"])
    if kind == "Slice":
        return Value(b.op(kind, x.name, b.ints(0), b.ints(2**40), b.ints(1)), x.sizes)
    if kind == "Concat":
        return Value(b.op(kind, x.name, axis=1), x.sizes)
    if kind == "Gather":
        order = list(range(x.sizes[0]))
        return Value(b.op(kind, x.name, b.ints(*b.random.choice([order, order[::-1]])), axis=1), x.sizes)
    if kind == "ReduceSum":  # without axes, it reduces none or all, depending on the attribute
        total = b.op(kind, x.name, noop_with_empty_axes=1)
        return Value(b.op("Add", total, b.op(kind, x.name, keepdims=1)), x.sizes)
    if kind == "Expand":
        return Value(b.op(kind, x.name, b.ints(1, 1, 1, 1)), x.sizes)
    if kind == "Reshape":
        return Value(b.op(kind, b.op(kind, x.name, b.ints(0, -1)), b.ints(0, *x.sizes)), x.sizes)
    if kind == "Unsqueeze":
        return Value(b.op("Squeeze", b.op(kind, x.name, b.ints(2)), b.ints(2)), x.sizes)
    return Value(b.op(kind, x.name), x.sizes)


STEPS = [
    pad, pad, pad, conv, conv, pool, pool, activation, activation, clipped_relu, scaled, sum_of_two, gelu, layer_norm,
    product, transposes, casts, quantized_pair, chosen, nothing_done, batch_normalised, batch_normalised,
]  # fmt: skip


def graphs(seeds: range) -> Iterator[Step]:
    """Yield each seed with its steps and its model."""
    for seed in seeds:
        b = Builder(seed)
        value = Value(b.input("x", FLOAT, [4, 8, 8]), (4, 8, 8))
        for _ in range(b.random.randint(2, 6)):
            step = b.random.choice(STEPS)
            if value.sizes[1] >= 4:
                value = step(b, value)
                b.steps.append(step.__name__)
        yield seed, tuple(b.steps), b.model([(value.name, FLOAT, ["batch", *value.sizes])])
