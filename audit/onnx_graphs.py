"""Generates random ONNX graphs whose rows are independent, or mixed, by construction.

A graph is a chain of steps from one of three inputs (vectors, sequences of token ids, images) to one or two
outputs. The steps in this file keep rows independent; those in `onnx_mixing.py` do not. Whether a graph is
independent follows from its construction alone, without running it.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
VOCABULARY = 50
OPSET = 17


class Value(NamedTuple):
    """A tensor of the graph. Its first dimension is the batch; `sizes` are the others, -1 if dynamic."""

    name: str
    sizes: tuple[int, ...]

    @property
    def last(self) -> int:
        return self.sizes[-1]


class Builder:
    """Collects nodes, weights and inputs. All choices come from `random`, so that a seed determines the graph."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.inputs: list[Any] = []
        self.steps: list[str] = []

    def name(self, stem: str) -> str:
        return f"{stem}_{len(self.nodes)}_{len(self.initializers)}"

    def constant(self, array: Any, stem: str = "c") -> str:
        name = self.name(stem)
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *sizes: int) -> str:
        scale = 1.0 / max(1.0, float(np.prod(sizes[:-1]))) ** 0.5
        return self.constant((self.numpy.normal(size=sizes) * scale).astype(np.float32), "w")

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64), "i")

    def float(self, value: float) -> str:
        return self.constant(np.array(value, np.float32), "f")

    def node(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        names = [self.name(kind.lower()) + f"_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.node(kind, inputs, **attributes)[0]

    def input(self, name: str, datatype: int, sizes: Sequence[int]) -> str:
        shape = ["batch", *[size if size >= 0 else "time" for size in sizes]]
        self.inputs.append(helper.make_tensor_value_info(name, datatype, shape))
        return name

    def model(self, outputs: Sequence[tuple[str, int, Sequence[Any]]]) -> ModelProto:
        infos = []
        for index, (name, datatype, shape) in enumerate(outputs):
            self.nodes.append(helper.make_node("Identity", [name], [f"out{index}"]))
            infos.append(helper.make_tensor_value_info(f"out{index}", datatype, shape))
        graph = helper.make_graph(self.nodes, "random", self.inputs, infos, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        checker.check_model(model)
        return model


# Row-wise steps: each maps a float tensor [batch, ..., d] to another.


def dense(b: Builder, x: Value) -> Value:
    width = b.random.choice([4, 8, 16])
    product = b.op("MatMul", x.name, b.weight(x.last, width))
    return Value(b.op("Add", product, b.weight(width)), (*x.sizes[:-1], width))


def pointwise(b: Builder, x: Value) -> Value:
    kind = b.random.choice(["Relu", "Sigmoid", "Tanh", "Softplus", "Abs", "Erf", "Elu", "HardSwish", "Neg"])
    return Value(b.op(kind, x.name), x.sizes)


def clipped(b: Builder, x: Value) -> Value:
    return Value(b.op("Clip", x.name, b.float(-6.0), b.float(6.0)), x.sizes)


def normalised(b: Builder, x: Value) -> Value:
    return Value(b.op("LayerNormalization", x.name, b.weight(x.last), axis=-1), x.sizes)


def softened(b: Builder, x: Value) -> Value:
    return Value(b.op("Softmax", x.name, axis=b.random.choice([-1, len(x.sizes)])), x.sizes)


def residual(b: Builder, x: Value) -> Value:
    y = b.op("MatMul", x.name, b.weight(x.last, x.last))
    return Value(b.op("Add", x.name, y), x.sizes)


def centred(b: Builder, x: Value) -> Value:
    mean = b.op("ReduceMean", x.name, axes=[-1], keepdims=1)
    return Value(b.op("Sub", x.name, mean), x.sizes)


def gated(b: Builder, x: Value) -> Value:
    flags = b.op("Greater", x.name, b.float(0.1))
    return Value(b.op("Where", flags, x.name, b.op("Mul", x.name, b.float(0.1))), x.sizes)


def summed_up(b: Builder, x: Value) -> Value:
    return Value(b.op("CumSum", x.name, b.constant(np.array(len(x.sizes), np.int64))), x.sizes)


def halves(b: Builder, x: Value) -> Value:
    if x.last % 2:
        return x
    first, second = b.node("Split", [x.name], 2, axis=-1)
    return Value(b.op("Mul", first, b.op("Sigmoid", second)), (*x.sizes[:-1], x.last // 2))


def joined(b: Builder, x: Value) -> Value:
    return Value(b.op("Concat", x.name, b.op("Neg", x.name), axis=-1), (*x.sizes[:-1], 2 * x.last))


def strongest(b: Builder, x: Value) -> Value:
    count = min(3, x.last)
    values, _ = b.node("TopK", [x.name, b.ints(count)], 2, axis=-1)
    return Value(values, (*x.sizes[:-1], count))


def quantized(b: Builder, x: Value) -> Value:
    scale, zero = b.float(0.05), b.constant(np.array(128, np.uint8))
    whole = b.op("QuantizeLinear", x.name, scale, zero)
    return Value(b.op("DequantizeLinear", whole, scale, zero), x.sizes)


def shape_kept(b: Builder, x: Value) -> Value:
    """Flatten each row and restore its shape, with sizes read at run time, like PyTorch's view(x.size(0), -1)."""
    shape = b.op("Shape", x.name)
    batch = b.op("Gather", shape, b.ints(0), axis=0)
    flat = b.op("Reshape", x.name, b.op("Concat", batch, b.ints(-1), axis=0))
    return Value(b.op("Reshape", b.op("Relu", flat), shape), x.sizes)


def folded(b: Builder, x: Value) -> Value:
    """Turn each time step of a sequence into a row, and reverse that after a product."""
    shape = b.op("Shape", x.name)
    width = x.last
    flat = b.op("Reshape", x.name, b.ints(-1, width))
    out = b.op("Gemm", flat, b.weight(width, width), b.weight(width))
    return Value(b.op("Reshape", b.op("Tanh", out), shape), x.sizes)


ANY_FLOAT: list[Callable[[Builder, Value], Value]] = [
    dense, pointwise, clipped, normalised, softened, residual, centred, gated, summed_up, halves, joined, strongest,
    quantized, shape_kept, folded,
]  # fmt: skip


# Steps for sequences [batch, time, d].


def attention(b: Builder, x: Value) -> Value:
    query, key, value = (b.op("MatMul", x.name, b.weight(x.last, x.last)) for _ in range(3))
    scores = b.op("MatMul", query, b.op("Transpose", key, perm=[0, 2, 1]))
    return Value(b.op("MatMul", b.op("Softmax", b.op("Mul", scores, b.float(0.3)), axis=-1), value), x.sizes)


def recurrent(b: Builder, x: Value) -> Value:
    hidden = 6
    steps = b.op("Transpose", x.name, perm=[1, 0, 2])
    if b.random.random() < 0.5:
        gates, kind = 4 * hidden, "LSTM"
    else:
        gates, kind = 3 * hidden, "GRU"
    every = b.node(kind, [steps, b.weight(1, gates, x.last), b.weight(1, gates, hidden)], 1, hidden_size=hidden)[0]
    return Value(b.op("Transpose", b.op("Squeeze", every, b.ints(1)), perm=[1, 0, 2]), (x.sizes[0], hidden))


def filtered(b: Builder, x: Value) -> Value:
    channels = b.op("Transpose", x.name, perm=[0, 2, 1])
    out = b.op("Conv", channels, b.weight(x.last, x.last, 3), pads=[1, 1])
    return Value(b.op("Transpose", out, perm=[0, 2, 1]), x.sizes)


def einsum(b: Builder, x: Value) -> Value:
    return Value(b.op("Einsum", x.name, b.weight(x.last, 5), equation="btd,de->bte"), (x.sizes[0], 5))


SEQUENCE = [attention, recurrent, filtered, einsum]


# Steps for images [batch, channels, height, width].


def convolved(b: Builder, x: Value) -> Value:
    channels = b.random.choice([4, 8])
    out = b.op("Conv", x.name, b.weight(channels, x.sizes[0], 3, 3), pads=[1, 1, 1, 1])
    return Value(out, (channels, *x.sizes[1:]))


def batch_normalised(b: Builder, x: Value) -> Value:
    channels = x.sizes[0]
    mean, spread = b.weight(channels), b.constant(np.full(channels, 1.5, np.float32))
    return Value(b.op("BatchNormalization", x.name, b.weight(channels), b.weight(channels), mean, spread), x.sizes)


def instance_normalised(b: Builder, x: Value) -> Value:
    channels = x.sizes[0]
    return Value(b.op("InstanceNormalization", x.name, b.weight(channels), b.weight(channels)), x.sizes)


def pooled(b: Builder, x: Value) -> Value:
    if x.sizes[1] < 4:
        return x
    out = b.op(b.random.choice(["MaxPool", "AveragePool"]), x.name, kernel_shape=[2, 2], strides=[2, 2])
    return Value(out, (x.sizes[0], x.sizes[1] // 2, x.sizes[2] // 2))


def padded(b: Builder, x: Value) -> Value:
    out = b.op("Pad", x.name, b.ints(0, 0, 1, 1, 0, 0, 1, 1), mode="edge")
    return Value(out, (x.sizes[0], x.sizes[1] + 2, x.sizes[2] + 2))


def doubled(b: Builder, x: Value) -> Value:
    if x.sizes[1] > 10:
        return x
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    return Value(b.op("Resize", x.name, "", scales, mode="nearest"), (x.sizes[0], x.sizes[1] * 2, x.sizes[2] * 2))


def rectified(b: Builder, x: Value) -> Value:
    return Value(b.op("Relu", x.name), x.sizes)


IMAGE = [convolved, convolved, batch_normalised, instance_normalised, pooled, padded, doubled, rectified]


def start(b: Builder) -> Value:
    """Add an input and steps for its kind. Return a value of shape [batch, d] or [batch, time, d]."""
    kind = b.random.choice(["vectors", "tokens", "images"])
    b.steps.append(kind)
    if kind == "vectors":
        width = b.random.choice([4, 8, 12])
        return Value(b.input("x", FLOAT, [width]), (width,))
    if kind == "images":
        value = Value(b.input("image", FLOAT, [3, 8, 8]), (3, 8, 8))
        value = chain(b, value, IMAGE, b.random.randint(1, 4))
        pooled_down = b.op("GlobalAveragePool", value.name)
        return Value(b.op("Flatten", pooled_down, axis=1), (value.sizes[0],))
    time, width = b.random.choice([-1, 6]), 8
    ids = b.input("ids", INT64, [time])
    embedded = b.op("Gather", b.weight(VOCABULARY, width), ids, axis=0)
    if b.random.random() < 0.4:
        mask = b.op("Cast", b.op("Greater", ids, b.ints(0)), to=FLOAT)
        embedded = b.op("Mul", embedded, b.op("Unsqueeze", mask, b.ints(2)))
    value = chain(b, Value(embedded, (time, width)), SEQUENCE + ANY_FLOAT, b.random.randint(1, 4))
    if b.random.random() < 0.6:
        pooling = b.random.choice(["ReduceMean", "ReduceMax", "ReduceL2"])
        return Value(b.op(pooling, value.name, axes=[1], keepdims=0), (value.last,))
    return value


def chain(b: Builder, value: Value, steps: Sequence[Callable[[Builder, Value], Value]], count: int) -> Value:
    for _ in range(count):
        step = b.random.choice(list(steps))
        value = step(b, value)
        b.steps.append(step.__name__)
    return value


def finish(b: Builder, value: Value) -> ModelProto:
    """Return the model, whose outputs are scores, labels or both, as in classifiers."""
    shape = ["batch", *[size if size >= 0 else "time" for size in value.sizes]]
    outputs: list[tuple[str, int, Sequence[Any]]] = [(value.name, FLOAT, shape)]
    ending = b.random.choice(["scores", "scores", "label", "both", "saturated"])
    b.steps.append(ending)
    if ending == "saturated":
        outputs = [(b.op("Sigmoid", b.op("Mul", value.name, b.float(4.0))), FLOAT, shape)]
    if ending in ("label", "both"):
        label = (b.op("ArgMax", value.name, axis=-1, keepdims=0), INT64, shape[:-1])
        outputs = [label] if ending == "label" else [*outputs, label]
    return b.model(outputs)


class Graph(NamedTuple):
    """A generated model. `mixing` names the step that mixes rows, or is empty; `steps` lists all steps in order."""

    seed: int
    mixing: str
    steps: tuple[str, ...]
    model: ModelProto


def independent_graph(seed: int) -> Graph:
    b = Builder(seed)
    value = chain(b, start(b), ANY_FLOAT, b.random.randint(1, 5))
    model = finish(b, value)
    return Graph(seed, "", tuple(b.steps), model)
