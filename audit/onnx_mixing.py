"""Steps that mix the rows of a batch, each as it occurs in real models; see `onnx_graphs.py` for the others."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from audit.onnx_graphs import ANY_FLOAT, FLOAT, INT64, Builder, Graph, Value, chain, finish, independent_graph, start

BOOL = TensorProto.BOOL


def rank(x: Value) -> int:
    return len(x.sizes) + 1


def dynamic_quantization(b: Builder, x: Value) -> Value:
    """Quantize with one scale for the whole batch, as onnxruntime's quantize_dynamic does."""
    whole, scale, zero = b.node("DynamicQuantizeLinear", [x.name], 3)
    return Value(b.op("DequantizeLinear", whole, scale, zero), x.sizes)


def dynamic_product(b: Builder, x: Value) -> Value:
    width = 6
    whole, scale, zero = b.node("DynamicQuantizeLinear", [x.name], 3)
    weights = b.constant(b.numpy.integers(-127, 127, (x.last, width), np.int8), "w")
    product = b.op("Cast", b.op("MatMulInteger", whole, weights, zero), to=FLOAT)
    return Value(b.op("Mul", b.op("Mul", product, scale), b.float(0.01)), (*x.sizes[:-1], width))


def batch_mean_removed(b: Builder, x: Value) -> Value:
    return Value(b.op("Sub", x.name, b.op("ReduceMean", x.name, axes=[0], keepdims=1)), x.sizes)


def whole_maximum(b: Builder, x: Value) -> Value:
    largest = b.op("ReduceMax", b.op("Abs", x.name), keepdims=0)
    return Value(b.op("Div", x.name, b.op("Add", largest, b.float(0.5))), x.sizes)


def softmax_over_batch(b: Builder, x: Value) -> Value:
    return Value(b.op("Softmax", x.name, axis=0), x.sizes)


def running_sum(b: Builder, x: Value) -> Value:
    return Value(b.op("CumSum", x.name, b.constant(np.array(b.random.choice([0, -rank(x)]), np.int64))), x.sizes)


def training_norm(b: Builder, x: Value) -> Value:
    channels = x.sizes[0] if x.sizes[0] > 0 else x.last
    value = x.name if x.sizes[0] > 0 else b.op("Transpose", x.name, perm=[0, 2, 1])
    mean, spread = b.weight(channels), b.constant(np.ones(channels, np.float32))
    scale, shift = b.constant(np.ones(channels, np.float32)), b.weight(channels)
    out = b.node("BatchNormalization", [value, scale, shift, mean, spread], 3, training_mode=1)[0]
    return Value(out if x.sizes[0] > 0 else b.op("Transpose", out, perm=[0, 2, 1]), x.sizes)


def neighbour(b: Builder, x: Value) -> Value:
    """Add the previous row, with the operators to which torch.roll(x, 1, dims=0) is exported."""
    last = b.op("Slice", x.name, b.ints(-1), b.ints(2**31), b.ints(0))
    others = b.op("Slice", x.name, b.ints(0), b.ints(-1), b.ints(0))
    return Value(b.op("Add", x.name, b.op("Concat", last, others, axis=0)), x.sizes)


def first_row(b: Builder, x: Value) -> Value:
    return Value(b.op("Sub", x.name, b.op("Gather", x.name, b.ints(0), axis=0)), x.sizes)


def gram(b: Builder, x: Value) -> Value:
    """Weight rows by their similarity, like a contrastive head that was left in the model."""
    flat = b.op("Flatten", x.name, axis=1)
    alike = b.op("MatMul", flat, b.op("Transpose", flat, perm=[1, 0]))
    mixed = b.op("MatMul", b.op("Softmax", alike, axis=-1), flat)
    return Value(b.op("Reshape", mixed, b.op("Shape", x.name)), x.sizes)


def batch_first_forgotten(b: Builder, x: Value) -> Value:
    """Run an LSTM over the batch dimension as if it were time."""
    hidden, width = 6, x.last
    steps = x.name if rank(x) == 3 else b.op("Unsqueeze", x.name, b.ints(1))
    weights = [b.weight(1, 4 * hidden, width), b.weight(1, 4 * hidden, hidden)]
    every = b.node("LSTM", [steps, *weights], 1, hidden_size=hidden)[0]
    out = b.op("Squeeze", every, b.ints(1))
    return Value(out if rank(x) == 3 else b.op("Squeeze", out, b.ints(1)), (*x.sizes[:-1], hidden))


def batch_size_in_values(b: Builder, x: Value) -> Value:
    batch = b.op("Cast", b.op("Gather", b.op("Shape", x.name), b.ints(0), axis=0), to=FLOAT)
    return Value(b.op("Div", x.name, batch), x.sizes)


def branch_on_batch(b: Builder, x: Value) -> Value:
    hit = b.op("Greater", b.op("ReduceMax", x.name, keepdims=0), b.float(1.0))
    out = b.name("if")

    def branch(kind: str) -> Any:
        node = helper.make_node(kind, [x.name], [out + kind])
        return helper.make_graph([node], kind, [], [helper.make_tensor_value_info(out + kind, FLOAT, None)])

    b.nodes.append(helper.make_node("If", [hit], [out], then_branch=branch("Neg"), else_branch=branch("Tanh")))
    return Value(out, x.sizes)


def loop_to_the_largest(b: Builder, x: Value) -> Value:
    """Loop as many times as the largest value in the batch says."""
    steps = b.op("Cast", b.op("ReduceMax", b.op("Abs", x.name), keepdims=0), to=INT64)
    steps = b.op("Min", steps, b.constant(np.array(6, np.int64)))
    out = b.name("loop")
    infos = [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("go_in", BOOL, [])]
    infos.append(helper.make_tensor_value_info("at", FLOAT, None))
    ends = [helper.make_tensor_value_info("go_out", BOOL, []), helper.make_tensor_value_info("next", FLOAT, None)]
    half = helper.make_tensor("half", FLOAT, [], [0.5])
    nodes = [
        helper.make_node("Identity", ["go_in"], ["go_out"]),
        helper.make_node("Constant", [], ["by"], value=half),
        helper.make_node("Mul", ["at", "by"], ["next"]),
    ]
    body = helper.make_graph(nodes, "body", infos, ends)
    b.nodes.append(helper.make_node("Loop", [steps, b.constant(np.array(True)), x.name], [out], body=body))
    return Value(out, x.sizes)


def noise(b: Builder, x: Value) -> Value:
    kind = b.random.choice(["RandomNormalLike", "RandomUniformLike"])
    return Value(b.op("Add", x.name, b.op(kind, x.name)), x.sizes)


def sorted_rows(b: Builder, x: Value) -> Value:
    """Sort the rows by their first value, in descending order."""
    flat = b.op("Flatten", x.name, axis=1)
    keys = b.op("Squeeze", b.op("Slice", flat, b.ints(0), b.ints(1), b.ints(1)), b.ints(1))
    batch = b.op("Gather", b.op("Shape", x.name), b.ints(0), axis=0)
    _, order = b.node("TopK", [keys, batch], 2, axis=0)
    return Value(b.op("Gather", x.name, order, axis=0), x.sizes)


def normalised_over_batch(b: Builder, x: Value) -> Value:
    spread = b.op("ReduceL2", x.name, axes=[-rank(x)], keepdims=1)
    return Value(b.op("Div", x.name, b.op("Add", spread, b.float(1.0))), x.sizes)


def rank_among_rows(b: Builder, x: Value) -> Value:
    """Add the number of rows with a lower score, by comparing [n, 1] with [1, n]."""
    score = b.op("ReduceMean", b.op("Flatten", x.name, axis=1), axes=[1], keepdims=1)
    below = b.op("Greater", score, b.op("Transpose", score, perm=[1, 0]))
    count = b.op("ReduceSum", b.op("Cast", below, to=FLOAT), b.ints(1), keepdims=1)
    if rank(x) == 3:
        count = b.op("Unsqueeze", count, b.ints(2))
    return Value(b.op("Add", x.name, count), x.sizes)


def whole_as_one_row(b: Builder, x: Value) -> Value:
    """Normalize after view(1, -1), where view(n, -1) would be correct."""
    flat = b.op("Reshape", x.name, b.ints(1, -1))
    return Value(b.op("Reshape", b.op("Softmax", flat, axis=-1), b.op("Shape", x.name)), x.sizes)


STEPS: list[Callable[[Builder, Value], Value]] = [
    dynamic_quantization, dynamic_quantization, dynamic_product, batch_mean_removed, whole_maximum, softmax_over_batch,
    running_sum, training_norm, neighbour, first_row, gram, batch_first_forgotten, batch_size_in_values,
    branch_on_batch, loop_to_the_largest, noise, sorted_rows, normalised_over_batch, rank_among_rows, whole_as_one_row,
]  # fmt: skip


# Endings after which the number of rows in an output depends on values.


def hits(b: Builder, x: Value) -> ModelProto:
    flags = b.op("Greater", x.name, b.float(0.7))
    found = b.op("Transpose", b.op("NonZero", flags), perm=[1, 0])
    return b.model([(found, INT64, ["hits", rank(x)])])


def kept_rows(b: Builder, x: Value) -> ModelProto:
    score = b.op("ReduceMax", b.op("Flatten", x.name, axis=1), axes=[1], keepdims=0)
    out = b.op("Compress", x.name, b.op("Greater", score, b.float(0.3)), axis=0)
    return b.model([(out, FLOAT, ["kept", *_open(x)])])


def distinct(b: Builder, x: Value) -> ModelProto:
    label = b.op("ArgMax", b.op("Flatten", x.name, axis=1), axis=-1, keepdims=0)
    return b.model([(b.node("Unique", [label], 1)[0], INT64, ["labels"])])


def boxes(b: Builder, x: Value) -> ModelProto:
    """Apply NonMaxSuppression to four boxes per row, with scores computed from the values."""
    flat = b.op("Flatten", x.name, axis=1)
    width = b.weight(1, 16)
    one = b.op("Unsqueeze", b.op("ReduceMean", flat, axes=[1], keepdims=0), b.ints(1))
    corners = b.op("Reshape", b.op("MatMul", one, width), b.ints(-1, 4, 4))
    scores = b.op("Sigmoid", b.op("Unsqueeze", b.op("MatMul", one, b.weight(1, 4)), b.ints(1)))
    chosen = b.op("NonMaxSuppression", corners, scores, b.ints(10), b.float(0.5), b.float(0.5))
    return b.model([(chosen, INT64, ["selected", 3])])


def longest(b: Builder, x: Value) -> ModelProto:
    """Cut the rows to the greatest length in the batch and average them over time, as speech models do."""
    lengths = b.input("lengths", INT64, [])
    steps = x.name if rank(x) == 3 else b.op("Unsqueeze", x.name, b.ints(2))
    most = b.op("ReduceMax", lengths, axes=[0], keepdims=1)
    trimmed = b.op("Slice", steps, b.ints(0), most, b.ints(1))
    mean = b.op("ReduceMean", trimmed, axes=[1], keepdims=0)
    return b.model([(mean, FLOAT, ["batch", x.last if rank(x) == 3 else 1])])


def _open(x: Value) -> list[Any]:
    return [size if size >= 0 else "time" for size in x.sizes]


ENDINGS = [hits, kept_rows, distinct, boxes, longest]


def mixing_graph(seed: int) -> Graph:
    b = Builder(seed)
    value = chain(b, start(b), ANY_FLOAT, b.random.randint(0, 2))
    if b.random.random() < 0.25:
        ending = b.random.choice(ENDINGS)
        return Graph(seed, ending.__name__, tuple(b.steps), ending(b, value))
    step = b.random.choice(STEPS)
    b.steps.append(step.__name__)
    value = chain(b, step(b, value), ANY_FLOAT, b.random.randint(0, 2))
    model = finish(b, value)
    return Graph(seed, step.__name__, tuple(b.steps), model)


def graphs(count: int, first: int = 0) -> Sequence[Graph]:
    """Return `count` graphs, half of which mix rows. Equal arguments return equal graphs."""
    return [mixing_graph(seed) if seed % 2 else independent_graph(seed) for seed in range(first, first + count)]
