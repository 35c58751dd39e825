"""Operators that write values at indices, and operators that find indices of values."""

from typing import Any

import torch

from runtimes.dataflow import indexing
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.values import Value, constant, propagate, repeats, unsure
from runtimes.dataflow.walk import Call

from ..operators import Arguments, items, rule


@rule("scatter scatter_add scatter_reduce")
def scatter(call: Call) -> Value:
    given = Arguments(call)
    value, index = given["self"], given["index"]
    source = given.get("src") or given.get("value")
    if source is None or source.tainted:
        return propagate(call.present)
    if source.rank == 0:
        source = index
    if any(each.counts_rows for each in (value, index, source)):
        return unsure("%s is not followed" % call.at)
    return indexing.scatter_elements(call.at, value, index, source, given.number("dim"))


@rule("index_put _index_put_impl _unsafe_index_put")
def index_put(call: Call) -> Value:
    given = Arguments(call)
    value, indices, new = given["self"], items(given["indices"]), given["values"]
    kinds = (call.attribute("dtypes") or [None, None])[1] or [None] * len(indices)
    together = [value, new] + indices
    if value.tainted:
        return propagate(together)
    if any(
        each.tainted for each in together
    ):  # unknown: it may write values back to the rows that they were taken from
        return unsure("%s writes values in a way that is not followed" % call.at)
    if not any(each.has_rows or repeats(each) for each in together):
        return constant(value.dims)
    # A mask of the first dimensions, and one number that is written wherever it is true.
    if len(indices) == 1 and kinds[0] == torch.bool and new.rank == 0 and value.dims is not None and indices[0].dims:
        mask = indices[0]
        mask = mask._replace(dims=mask.dims + (1,) * (len(value.dims) - len(mask.dims)))
        return elementwise(call.at, value, mask, new)
    return unsure("%s writes values in a way that is not followed" % call.at)


@rule("index_fill index_copy index_add index_reduce masked_scatter put")
def by_index(call: Call) -> Value:
    if any(each.has_rows or each.tainted or repeats(each) for each in call.present):
        return unsure("%s writes values in a way that is not followed" % call.at, call.present)
    return constant(call[0].dims)


@rule("bucketize searchsorted isin")
def search(call: Call) -> Any:
    """Look up each value in a table, which must be a constant with one dimension."""
    names = {"bucketize": ("self", "boundaries"), "searchsorted": ("self", "sorted_sequence")}
    given = Arguments(call)
    value, table = names.get(call.node.operator, ("elements", "test_elements"))
    if value not in given or table not in given or any(name in given for name in ("sorter", "side")):
        raise ValueError("another form")
    wrong = call.not_constant([given[table]])
    if wrong is not None:
        return wrong
    if given[table].rank != 1 and call.node.operator != "isin":
        raise ValueError("a table with several dimensions")
    return elementwise(call.at, given[value])
