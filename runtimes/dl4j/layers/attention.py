"""Attention over time, without masks: [N, nIn, T]. DL4J's own are SameDiff layers; their parameters lie row by row."""

import math
from typing import Callable, List, Tuple

import numpy as np

from ..registry import LAYERS, VERTICES, covers, series
from ..site import Site
from ..values import Value

_MAX_STEPS = 256


@covers(LAYERS, "SelfAttentionLayer", source="conf/layers/SelfAttentionLayer", shown="computed", takes=series)
def self_attention(site: Site) -> Value:
    value = site.of(2, site.settings.integer("nIn", least=1), -1)
    return _attended(site, value, value, value)


@covers(
    LAYERS, "LearnedSelfAttentionLayer", source="conf/layers/LearnedSelfAttentionLayer", shown="computed", takes=series
)
def learned_queries(site: Site) -> Value:
    """As many steps come out as it has queries."""
    size, count = site.settings.integer("nIn", least=1), site.settings.integer("nQueries", least=1)
    value = site.of(2, size, -1)
    queries = Value(site.constant(site.take([1, size, count], "C"), "queries"), (size, count), value.folds)
    return _attended(site, queries, value, value)


@covers(VERTICES, "AttentionVertex", source="conf/graph/AttentionVertex", shown="computed")
def attention(site: Site) -> Value:
    if len(site.inputs) != 3:
        site.refuse("it reads %d others, where queries, keys and values are known" % len(site.inputs))
    for value in site.inputs:
        if len(value.sizes) != 2 or value.folds != site.inputs[0].folds:
            site.refuse("it takes three sequences")
    return _attended(site, *site.inputs)


@covers(LAYERS, "RecurrentAttentionLayer", source="conf/layers/RecurrentAttentionLayer", shown="computed", takes=series)
def recurrent(site: Site) -> Value:
    """Each step sees the whole sequence, asked by the step before; the first sees itself alone. b lies last."""
    inputs, outputs = site.settings.integer("nIn", least=1), site.settings.integer("nOut", least=1)
    value = site.of(2, inputs, -1)
    steps = value.sizes[1]
    if not 0 < steps <= _MAX_STEPS:
        site.refuse("it is written out step by step, up to %d: give their number in [[inputs]]" % _MAX_STEPS)
    weights, back = site.constant(site.take([inputs, outputs], "C")), site.constant(site.take([outputs, outputs], "C"))
    attend = _attention(site, outputs, value, value)
    bias = site.constant(site.take([outputs], "C"), "bias") if site.settings.flag("hasBias", True) else ""
    last = site.graph.sizes(2)
    given: List[str] = []
    for step in range(steps):
        x = site.emit("Gather", value.name, site.graph.constant(np.array(step, np.int64)), axis=2)
        name = site.emit("MatMul", x, weights)
        name = site.emit("Add", name, bias) if bias else name
        if given:
            seen = attend(Value(given[-1], (outputs, 1), value.folds))
            if seen.sizes[0] != outputs:
                site.refuse("what it sees has %d features, where %d are wanted" % (seen.sizes[0], outputs))
            more = site.emit("MatMul", site.emit("Squeeze", seen.name, last), back)
            name = site.emit("Add", name, more)
        given.append(site.emit("Unsqueeze", _activated(site, name), last))
    whole = given[0] if steps == 1 else site.emit("Concat", *given, axis=2)
    return site.value(whole, [outputs, steps], value)


def _activated(site: Site, name: str) -> str:
    """By a word, not an object. Of those that DL4J has here, leaky ReLU has no slope (Activation.asSameDiff)."""
    op = _WORDS.get(str(site.settings.get("activation")))
    if op is None:
        site.refuse("the activation function %.60s is not covered here" % site.settings.get("activation"))
    return site.emit(op, name) if op else name


_WORDS = {
    "IDENTITY": "",
    "LEAKYRELU": "Relu",
    "RELU": "Relu",
    "SIGMOID": "Sigmoid",
    "SOFTPLUS": "Softplus",
    "TANH": "Tanh",
}


def _attended(site: Site, queries: Value, keys: Value, values: Value) -> Value:
    if queries.sizes[0] < 0:
        site.refuse("it does not know how many features it gets")
    return _attention(site, queries.sizes[0], keys, values)(queries)


def _attention(site: Site, features: int, keys: Value, values: Value) -> Callable[[Value], Value]:
    """Queries of so many features to values · softmax(keysᵀ · queries / √size), over the keys; with projections, the
    next parameters, in so many heads."""
    if min(keys.sizes[0], values.sizes[0]) < 0:
        site.refuse("it does not know how many features it gets")
    if keys.sizes[1] != values.sizes[1] and min(keys.sizes[1], values.sizes[1]) >= 0:
        site.refuse("its keys have %d steps and its values %d" % (keys.sizes[1], values.sizes[1]))
    if not site.settings.flag("projectInput"):
        if features != keys.sizes[0]:
            site.refuse("its queries and keys have different sizes")

        def plain(queries: Value) -> Value:
            site.value("", [keys.sizes[1], queries.sizes[1]], values)  # refuses too many weights
            name = _product(site, queries.name, keys.name, values.name, keys.sizes[0])
            return site.value(name, [values.sizes[0], queries.sizes[1]], values)

        return plain
    heads, size = _heads(site)
    outputs = site.settings.integer("nOut", least=1)
    weights = [_projection(site, count, heads, size) for count in (features, keys.sizes[0], values.sizes[0])]
    mix = site.constant(site.take([heads * size, outputs], "C").T)
    projected = [_projected(site, value, weight, heads, size) for value, weight in zip((keys, values), weights[1:])]

    def in_heads(queries: Value) -> Value:
        site.value("", [heads, keys.sizes[1], queries.sizes[1]], values)
        name = _product(site, _projected(site, queries, weights[0], heads, size), *projected, size)
        joined = site.emit("Reshape", name, site.graph.sizes(0, heads * size, -1))
        return site.value(site.emit("MatMul", mix, joined), [outputs, queries.sizes[1]], values)

    return in_heads


def _heads(site: Site) -> Tuple[int, int]:
    heads, given = site.settings.integer("nHeads", 1, least=1), site.settings.integer("headSize", 0)
    size = given or site.settings.integer("nOut", least=1) // heads
    if size < 1:
        site.refuse("its heads are more than its outputs")
    return heads, size


def _projection(site: Site, features: int, heads: int, size: int) -> str:
    return site.constant(site.take([heads, size, features], "C").reshape(heads * size, features))


def _projected(site: Site, value: Value, weights: str, heads: int, size: int) -> str:
    """[N, features, T] to [N, heads, size, T]."""
    return site.emit("Reshape", site.emit("MatMul", weights, value.name), site.graph.sizes(0, heads, size, -1))


def _product(site: Site, queries: str, keys: str, values: str, size: int) -> str:
    """All of them [..., size, steps]."""
    rank = 4 if site.settings.flag("projectInput") else 3
    order = [*range(rank - 2), rank - 1, rank - 2]
    alike = site.emit("MatMul", site.emit("Transpose", keys, perm=order), queries)
    weights = site.emit("Softmax", site.emit("Mul", alike, site.scalar(1 / math.sqrt(size))), axis=rank - 2)
    return site.emit("MatMul", values, weights)
