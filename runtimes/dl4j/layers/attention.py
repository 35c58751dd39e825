"""Attention over the time steps of [N, nIn, T], without masks.

In DL4J these are SameDiff layers, so their parameters are stored in row-major order.
"""

import math
from typing import Callable, List, Tuple

import numpy as np

from ..context import TranslationContext
from ..registry import LAYERS, VERTICES, covers, series
from ..values import Value

# RecurrentAttentionLayer is unrolled. Each step adds about ten operators and attends to all steps.
_MAX_STEPS = 256


@covers(LAYERS, "SelfAttentionLayer", source="conf/layers/SelfAttentionLayer", evidence="computed", infer_input=series)
def self_attention(context: TranslationContext) -> Value:
    value = context.checked_input(2, context.settings.integer("nIn", minimum=1), -1)
    return _attended(context, value, value, value)


@covers(
    LAYERS,
    "LearnedSelfAttentionLayer",
    source="conf/layers/LearnedSelfAttentionLayer",
    evidence="computed",
    infer_input=series,
)
def learned_queries(context: TranslationContext) -> Value:
    """The output has one step per learned query."""
    size, count = context.settings.integer("nIn", minimum=1), context.settings.integer("nQueries", minimum=1)
    value = context.checked_input(2, size, -1)
    queries = Value(context.constant(context.take([1, size, count], "C"), "queries"), (size, count), value.folds)
    return _attended(context, queries, value, value)


@covers(VERTICES, "AttentionVertex", source="conf/graph/AttentionVertex", evidence="computed")
def attention(context: TranslationContext) -> Value:
    if len(context.inputs) != 3:
        context.refuse("it has %d inputs, and only three (queries, keys, values) are supported" % len(context.inputs))
    for value in context.inputs:
        if len(value.sizes) != 2 or value.folds != context.inputs[0].folds:
            context.refuse("its inputs must be sequences")
    return _attended(context, *context.inputs)


@covers(
    LAYERS,
    "RecurrentAttentionLayer",
    source="conf/layers/RecurrentAttentionLayer",
    evidence="computed",
    infer_input=series,
)
def recurrent(context: TranslationContext) -> Value:
    """Each step attends to the whole sequence, with the previous output as the query; the first step does not attend.

    The bias is the last parameter.
    """
    inputs, outputs = context.settings.integer("nIn", minimum=1), context.settings.integer("nOut", minimum=1)
    value = context.checked_input(2, inputs, -1)
    steps = value.sizes[1]
    if not 0 < steps <= _MAX_STEPS:
        context.refuse(
            "it is unrolled, and so needs a fixed number of up to %d steps: set it in [[inputs]]" % _MAX_STEPS
        )
    weights, back = (
        context.constant(context.take([inputs, outputs], "C")),
        context.constant(context.take([outputs, outputs], "C")),
    )
    attend = _attention(context, outputs, value, value)
    bias = context.constant(context.take([outputs], "C"), "bias") if context.settings.flag("hasBias", True) else ""
    last = context.graph.sizes(2)
    outputs_by_step: List[str] = []
    for step in range(steps):
        x = context.emit("Gather", value.name, context.graph.constant(np.array(step, np.int64)), axis=2)
        name = context.emit("MatMul", x, weights)
        name = context.emit("Add", name, bias) if bias else name
        if outputs_by_step:
            seen = attend(Value(outputs_by_step[-1], (outputs, 1), value.folds))
            if seen.sizes[0] != outputs:
                context.refuse("its attention has %d features and its output %d" % (seen.sizes[0], outputs))
            more = context.emit("MatMul", context.emit("Squeeze", seen.name, last), back)
            name = context.emit("Add", name, more)
        outputs_by_step.append(context.emit("Unsqueeze", activated_by_word(context, name), last))
    whole = outputs_by_step[0] if steps == 1 else context.emit("Concat", *outputs_by_step, axis=2)
    return context.value(whole, [outputs, steps], value)


def activated_by_word(context: TranslationContext, name: str) -> str:
    """Apply the activation function, which this layer names by a word instead of an object.

    LEAKYRELU has the slope 0 here (Activation.asSameDiff).
    """
    op = _WORDS.get(str(context.settings.get("activation")))
    if op is None:
        context.refuse("the activation function %.60s is not covered here" % context.settings.get("activation"))
    return context.emit(op, name) if op else name


_WORDS = {
    "IDENTITY": "",
    "LEAKYRELU": "Relu",
    "RELU": "Relu",
    "SIGMOID": "Sigmoid",
    "SOFTPLUS": "Softplus",
    "TANH": "Tanh",
}


def _attended(context: TranslationContext, queries: Value, keys: Value, values: Value) -> Value:
    if queries.sizes[0] < 0:
        context.refuse("the number of its input's features is unknown")
    return _attention(context, queries.sizes[0], keys, values)(queries)


def _attention(context: TranslationContext, features: int, keys: Value, values: Value) -> Callable[[Value], Value]:
    """Return the function that maps queries with this many features to values · softmax(keysᵀ · queries / √size).

    The softmax is over the keys. If the layer projects its inputs, this consumes the projections' parameters and
    computes several heads.
    """
    if min(keys.sizes[0], values.sizes[0]) < 0:
        context.refuse("the number of its input's features is unknown")
    if keys.sizes[1] != values.sizes[1] and min(keys.sizes[1], values.sizes[1]) >= 0:
        context.refuse("its keys have %d steps and its values %d" % (keys.sizes[1], values.sizes[1]))
    if not context.settings.flag("projectInput"):
        if features != keys.sizes[0]:
            context.refuse("its queries and keys have different sizes")

        def plain(queries: Value) -> Value:
            context.value("", [keys.sizes[1], queries.sizes[1]], values)  # raises if there are too many weights
            name = _product(context, queries.name, keys.name, values.name, keys.sizes[0])
            return context.value(name, [values.sizes[0], queries.sizes[1]], values)

        return plain
    heads, size = _heads(context)
    outputs = context.settings.integer("nOut", minimum=1)
    weights = [_projection(context, count, heads, size) for count in (features, keys.sizes[0], values.sizes[0])]
    mix = context.constant(context.take([heads * size, outputs], "C").T)
    key_heads, value_heads = (
        _projected(context, value, weight, heads, size) for value, weight in zip((keys, values), weights[1:])
    )

    def in_heads(queries: Value) -> Value:
        context.value("", [heads, keys.sizes[1], queries.sizes[1]], values)
        name = _product(context, _projected(context, queries, weights[0], heads, size), key_heads, value_heads, size)
        joined = context.emit("Reshape", name, context.graph.sizes(0, heads * size, -1))
        return context.value(context.emit("MatMul", mix, joined), [outputs, queries.sizes[1]], values)

    return in_heads


def _heads(context: TranslationContext) -> Tuple[int, int]:
    heads, given = context.settings.integer("nHeads", 1, minimum=1), context.settings.integer("headSize", 0)
    size = given or context.settings.integer("nOut", minimum=1) // heads
    if size < 1:
        context.refuse("it has more heads than outputs")
    return heads, size


def _projection(context: TranslationContext, features: int, heads: int, size: int) -> str:
    return context.constant(context.take([heads, size, features], "C").reshape(heads * size, features))


def _projected(context: TranslationContext, value: Value, weights: str, heads: int, size: int) -> str:
    """Project [N, features, T] to [N, heads, size, T]."""
    return context.emit("Reshape", context.emit("MatMul", weights, value.name), context.graph.sizes(0, heads, size, -1))


def _product(context: TranslationContext, queries: str, keys: str, values: str, size: int) -> str:
    """Return values · softmax(keysᵀ · queries / √size). All shapes are [..., size, steps]."""
    rank = 4 if context.settings.flag("projectInput") else 3
    order = [*range(rank - 2), rank - 1, rank - 2]
    alike = context.emit("MatMul", context.emit("Transpose", keys, perm=order), queries)
    weights = context.emit("Softmax", context.emit("Mul", alike, context.scalar(1 / math.sqrt(size))), axis=rank - 2)
    return context.emit("MatMul", values, weights)
