"""Attention over time, without masks: [N, nIn, T]. DL4J's own are SameDiff layers; their parameters lie row by row."""

import math
from typing import Tuple

from runtimes.dl4j.registry import LAYERS, VERTICES, covers, series
from runtimes.dl4j.site import Site
from runtimes.dl4j.values import Value


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


def _attended(site: Site, queries: Value, keys: Value, values: Value) -> Value:
    """values · softmax(keysᵀ · queries / √size), over the keys; with projections, in so many heads."""
    if min(each.sizes[0] for each in (queries, keys, values)) < 0:
        site.refuse("it does not know how many features it gets")
    if keys.sizes[1] != values.sizes[1] and min(keys.sizes[1], values.sizes[1]) >= 0:
        site.refuse("its keys have %d steps and its values %d" % (keys.sizes[1], values.sizes[1]))
    if not site.settings.flag("projectInput"):
        if queries.sizes[0] != keys.sizes[0]:
            site.refuse("its queries and keys have different sizes")
        site.value("", [keys.sizes[1], queries.sizes[1]], values)
        name = _product(site, queries.name, keys.name, values.name, keys.sizes[0])
        return site.value(name, [values.sizes[0], queries.sizes[1]], values)
    heads, size = _heads(site)
    site.value("", [heads, keys.sizes[1], queries.sizes[1]], values)  # refuses too many weights
    names = [_projected(site, value, heads, size) for value in (queries, keys, values)]
    name = _product(site, *names, size)
    joined = site.emit("Reshape", name, site.graph.sizes(0, heads * size, -1))
    outputs = site.settings.integer("nOut", least=1)
    mixed = site.emit("MatMul", site.constant(site.take([heads * size, outputs], "C").T), joined)
    return site.value(mixed, [outputs, queries.sizes[1]], values)


def _heads(site: Site) -> Tuple[int, int]:
    heads, given = site.settings.integer("nHeads", 1, least=1), site.settings.integer("headSize", 0)
    size = given or site.settings.integer("nOut", least=1) // heads
    if size < 1:
        site.refuse("its heads are more than its outputs")
    return heads, size


def _projected(site: Site, value: Value, heads: int, size: int) -> str:
    """[N, features, T] to [N, heads, size, T]."""
    weights = site.take([heads, size, value.sizes[0]], "C").reshape(heads * size, value.sizes[0])
    name = site.emit("MatMul", site.constant(weights), value.name)
    return site.emit("Reshape", name, site.graph.sizes(0, heads, size, -1))


def _product(site: Site, queries: str, keys: str, values: str, size: int) -> str:
    """All of them [..., size, steps]."""
    rank = 4 if site.settings.flag("projectInput") else 3
    order = [*range(rank - 2), rank - 1, rank - 2]
    alike = site.emit("MatMul", site.emit("Transpose", keys, perm=order), queries)
    weights = site.emit("Softmax", site.emit("Mul", alike, site.scalar(1 / math.sqrt(size))), axis=rank - 2)
    return site.emit("MatMul", values, weights)
