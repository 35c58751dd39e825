"""Attention over time, without masks: [N, nIn, T]. DL4J's own are SameDiff layers; their parameters lie row by row."""

import math
from typing import Callable, List, Tuple

import numpy as np

from ..context import TranslationContext
from ..registry import LAYERS, VERTICES, covers, series
from ..values import Value

_MAX_STEPS = 256


@covers(LAYERS, "SelfAttentionLayer", source="conf/layers/SelfAttentionLayer", shown="computed", takes=series)
def self_attention(context: TranslationContext) -> Value:
    value = context.of(2, context.settings.integer("nIn", least=1), -1)
    return _attended(context, value, value, value)


@covers(
    LAYERS, "LearnedSelfAttentionLayer", source="conf/layers/LearnedSelfAttentionLayer", shown="computed", takes=series
)
def learned_queries(context: TranslationContext) -> Value:
    """As many steps come out as it has queries."""
    size, count = context.settings.integer("nIn", least=1), context.settings.integer("nQueries", least=1)
    value = context.of(2, size, -1)
    queries = Value(context.constant(context.take([1, size, count], "C"), "queries"), (size, count), value.folds)
    return _attended(context, queries, value, value)


@covers(VERTICES, "AttentionVertex", source="conf/graph/AttentionVertex", shown="computed")
def attention(context: TranslationContext) -> Value:
    if len(context.inputs) != 3:
        context.refuse("it reads %d others, where queries, keys and values are known" % len(context.inputs))
    for value in context.inputs:
        if len(value.sizes) != 2 or value.folds != context.inputs[0].folds:
            context.refuse("it takes three sequences")
    return _attended(context, *context.inputs)


@covers(LAYERS, "RecurrentAttentionLayer", source="conf/layers/RecurrentAttentionLayer", shown="computed", takes=series)
def recurrent(context: TranslationContext) -> Value:
    """Each step sees the whole sequence, asked by the step before; the first sees itself alone. b lies last."""
    inputs, outputs = context.settings.integer("nIn", least=1), context.settings.integer("nOut", least=1)
    value = context.of(2, inputs, -1)
    steps = value.sizes[1]
    if not 0 < steps <= _MAX_STEPS:
        context.refuse("it is written out step by step, up to %d: give their number in [[inputs]]" % _MAX_STEPS)
    weights, back = (
        context.constant(context.take([inputs, outputs], "C")),
        context.constant(context.take([outputs, outputs], "C")),
    )
    attend = _attention(context, outputs, value, value)
    bias = context.constant(context.take([outputs], "C"), "bias") if context.settings.flag("hasBias", True) else ""
    last = context.graph.sizes(2)
    given: List[str] = []
    for step in range(steps):
        x = context.emit("Gather", value.name, context.graph.constant(np.array(step, np.int64)), axis=2)
        name = context.emit("MatMul", x, weights)
        name = context.emit("Add", name, bias) if bias else name
        if given:
            seen = attend(Value(given[-1], (outputs, 1), value.folds))
            if seen.sizes[0] != outputs:
                context.refuse("what it sees has %d features, where %d are wanted" % (seen.sizes[0], outputs))
            more = context.emit("MatMul", context.emit("Squeeze", seen.name, last), back)
            name = context.emit("Add", name, more)
        given.append(context.emit("Unsqueeze", _activated(context, name), last))
    whole = given[0] if steps == 1 else context.emit("Concat", *given, axis=2)
    return context.value(whole, [outputs, steps], value)


def _activated(context: TranslationContext, name: str) -> str:
    """By a word, not an object. Of those that DL4J has here, leaky ReLU has no slope (Activation.asSameDiff)."""
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
        context.refuse("it does not know how many features it gets")
    return _attention(context, queries.sizes[0], keys, values)(queries)


def _attention(context: TranslationContext, features: int, keys: Value, values: Value) -> Callable[[Value], Value]:
    """Queries of so many features to values · softmax(keysᵀ · queries / √size), over the keys; with projections, the
    next parameters, in so many heads."""
    if min(keys.sizes[0], values.sizes[0]) < 0:
        context.refuse("it does not know how many features it gets")
    if keys.sizes[1] != values.sizes[1] and min(keys.sizes[1], values.sizes[1]) >= 0:
        context.refuse("its keys have %d steps and its values %d" % (keys.sizes[1], values.sizes[1]))
    if not context.settings.flag("projectInput"):
        if features != keys.sizes[0]:
            context.refuse("its queries and keys have different sizes")

        def plain(queries: Value) -> Value:
            context.value("", [keys.sizes[1], queries.sizes[1]], values)  # refuses too many weights
            name = _product(context, queries.name, keys.name, values.name, keys.sizes[0])
            return context.value(name, [values.sizes[0], queries.sizes[1]], values)

        return plain
    heads, size = _heads(context)
    outputs = context.settings.integer("nOut", least=1)
    weights = [_projection(context, count, heads, size) for count in (features, keys.sizes[0], values.sizes[0])]
    mix = context.constant(context.take([heads * size, outputs], "C").T)
    projected = [_projected(context, value, weight, heads, size) for value, weight in zip((keys, values), weights[1:])]

    def in_heads(queries: Value) -> Value:
        context.value("", [heads, keys.sizes[1], queries.sizes[1]], values)
        name = _product(context, _projected(context, queries, weights[0], heads, size), *projected, size)
        joined = context.emit("Reshape", name, context.graph.sizes(0, heads * size, -1))
        return context.value(context.emit("MatMul", mix, joined), [outputs, queries.sizes[1]], values)

    return in_heads


def _heads(context: TranslationContext) -> Tuple[int, int]:
    heads, given = context.settings.integer("nHeads", 1, least=1), context.settings.integer("headSize", 0)
    size = given or context.settings.integer("nOut", least=1) // heads
    if size < 1:
        context.refuse("its heads are more than its outputs")
    return heads, size


def _projection(context: TranslationContext, features: int, heads: int, size: int) -> str:
    return context.constant(context.take([heads, size, features], "C").reshape(heads * size, features))


def _projected(context: TranslationContext, value: Value, weights: str, heads: int, size: int) -> str:
    """[N, features, T] to [N, heads, size, T]."""
    return context.emit("Reshape", context.emit("MatMul", weights, value.name), context.graph.sizes(0, heads, size, -1))


def _product(context: TranslationContext, queries: str, keys: str, values: str, size: int) -> str:
    """All of them [..., size, steps]."""
    rank = 4 if context.settings.flag("projectInput") else 3
    order = [*range(rank - 2), rank - 1, rank - 2]
    alike = context.emit("MatMul", context.emit("Transpose", keys, perm=order), queries)
    weights = context.emit("Softmax", context.emit("Mul", alike, context.scalar(1 / math.sqrt(size))), axis=rank - 2)
    return context.emit("MatMul", values, weights)
