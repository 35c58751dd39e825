"""Recurrent layers, attention, Fourier transforms and embedding bags."""

from typing import Any

from runtimes.dataflow import computing, shaping
from runtimes.dataflow.arithmetic import elementwise
from runtimes.dataflow.sizes import times
from runtimes.dataflow.values import Value, mixed, rows, unsure
from runtimes.dataflow.walk import Call

from ..operators import Arguments, NotFollowed, items, rule


@rule("lstm gru rnn_tanh rnn_relu")
def recurrent(call: Call) -> Any:
    given, outputs = Arguments(call), len(call.node.outputs)
    if "batch_sizes" in given or "data" in given:
        return [unsure("%s of packed sequences is not followed" % call.at, call.present)] * outputs
    value, weights = given["input"], items(given["params"])
    states = items(given["hx"]) if call.node.operator == "lstm" else [given["hx"]]
    if value.dims is None or len(value.dims) != 3:
        return [unsure("%s is not followed" % call.at, call.present)] * outputs
    first = given.number("batch_first") is True
    wrong = computing.recurrent(call.at, value, states, None, weights, 0 if first else 1)
    if wrong is not None:
        return [wrong] * outputs
    if given.number("dropout", 0.0) and given.number("train") is not False:
        return [mixed("%s is random" % call.at)] * outputs
    directions = 2 if given.number("bidirectional") is True else 1
    hidden = [(state.dims or (None,))[-1] for state in states]
    results = [
        rows(tuple(value.dims[:2]) + (times(directions, hidden[0] or 1),), value.axis or 0, value.before, value.after)
    ]
    for state in states:
        results.append(rows((state.dims or ()), 1, value.before, value.after))
    return results[:outputs]


@rule("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell")
def cell(call: Call) -> Any:
    given, outputs = Arguments(call), len(call.node.outputs)
    value, state = given["input"], given["hx"]
    states = items(state) if call.node.operator == "lstm_cell" else [state]
    weights = [each for name, each in ((name, given.get(name)) for name in ("w_ih", "w_hh", "b_ih", "b_hh")) if each]
    wrong = call.not_constant(weights)
    if wrong is not None:
        return [wrong] * outputs
    if value.dims is None or len(value.dims) != 2 or any(each.rank != 2 for each in states):
        raise NotFollowed("input")
    if (value.axis or 0) != 0 or any((each.axis or 0) != 0 for each in states):
        return [mixed("%s sums over the rows" % call.at)] * outputs
    narrow = computing.reduce(call.at, value, [1], True)
    found = elementwise(call.at, narrow, *states)
    return [found] * outputs


@rule("scaled_dot_product_attention")
def attention(call: Call) -> Value:
    given = Arguments(call)
    if given.number("dropout_p", 0.0):
        return mixed("%s is random" % call.at, call.present)
    query, key, value = given["query"], given["key"], given["value"]
    if key.dims is None or query.dims is None or len(key.dims) < 2:
        raise NotFollowed("key")
    rank = len(key.dims)
    transposed = shaping.transpose(call.at, key, list(range(rank - 2)) + [rank - 1, rank - 2])
    if given.number("enable_gqa", False) and rank > 3:
        # Several heads of the queries share one of the keys, which is broadcast as if there were only one.
        transposed, value = (
            each._replace(dims=each.dims[:-3] + (1,) + each.dims[-2:])
            if _has_separate_heads(each)
            else unsure("%s is not followed" % call.at)
            for each in (transposed, value)
        )
    scores = computing.matmul(call.at, query, transposed)
    if "attn_mask" in given:
        scores = elementwise(call.at, scores, given["attn_mask"])
    if given.number("is_causal", False) and scores.axis is not None and scores.axis >= len(scores.dims or ()) - 2:
        return mixed("%s runs from row to row" % call.at)
    return computing.matmul(call.at, computing.along(call.at, scores, [-1], "normalizes over"), value)


def _has_separate_heads(value: Value) -> bool:
    """Return whether the rows are not in the dimension of the heads."""
    return value.dims is not None and len(value.dims) > 3 and value.axis != len(value.dims) - 3 and not value.tainted


@rule("_transformer_encoder_layer_fwd")
def encoder_layer(call: Call) -> Any:
    given = Arguments(call)
    value, mask = given["src"], given.get("mask")
    names = [name for name in call.attribute("names") if name not in ("src", "mask", "mask_type")]
    wrong = call.not_constant([given.get(name) for name in names])
    if wrong is not None:
        return wrong
    if mask is not None and mask.rank != 2 and not mask.tainted:
        raise NotFollowed("mask")
    return computing.batch_first(call.at, [value] + ([mask] if mask is not None else []), [3])[0]


@rule("_native_multi_head_attention")
def native_attention(call: Call) -> Any:
    given, outputs = Arguments(call), len(call.node.outputs)
    queries = given.of("query key value")
    weights = given.of("qkv_weight qkv_bias proj_weight proj_bias")
    wrong = call.not_constant(weights)
    if wrong is not None or any(each.has_rows != queries[0].has_rows for each in queries) or "mask" in given:
        return [unsure("%s is not followed" % call.at, call.present)] * outputs
    return computing.batch_first(call.at, queries, [3, 3][:outputs])


@rule("fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft")
def transform(call: Call) -> Value:
    return computing.along(call.at, call[0], [Arguments(call).number("dim", -1)], "transforms", None)


@rule("fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn fft_ifftn fft_rfftn fft_irfftn fft_fftshift fft_ifftshift")
def transform_of_several(call: Call) -> Value:
    axes = Arguments(call).numbers("dim")
    shift = call.node.operator.endswith("shift")
    return computing.along(call.at, call[0], axes, "transforms", 0 if shift else None)


@rule("stft istft")
def short_time(call: Call) -> Value:
    """Transform one signal for each row."""
    given = Arguments(call)
    value, rank = call[0], call[0].rank
    wrong = call.not_constant(given.of("window n_fft hop_length win_length"))
    if wrong is not None:
        return wrong
    if call.node.operator == "istft" or rank != 2:
        return unsure("%s is not followed" % call.at, call.present)
    return computing.batch_first(call.at, [value], [3])[0]


@rule("view_as_real")
def as_real(call: Call) -> Value:
    value = call[0]
    if value.dims is None or value.tainted or value.counts_rows:
        raise NotFollowed("self")
    return value._replace(dims=value.dims + (2,), contents=None)


@rule("view_as_complex")
def as_complex(call: Call) -> Value:
    value = call[0]
    if value.dims is None or value.tainted or value.counts_rows or value.axis == len(value.dims) - 1:
        raise NotFollowed("self")
    return value._replace(dims=value.dims[:-1], contents=None)


@rule("embedding_bag _embedding_bag_forward_only _embedding_bag")
def bag(call: Call) -> Any:
    given, outputs = Arguments(call), len(call.node.outputs)
    ids, table = given["indices"], given["weight"]
    wrong = call.not_constant([table])
    if wrong is not None:
        return [wrong] * outputs
    begins = given.get("offsets")
    if ids.rank == 1 and begins is not None and begins.has_rows:  # offsets count from the first id of the first row
        return [
            mixed("%s finds the start of each row by the lengths of the rows before it" % call.at, call.present)
        ] * outputs
    return [unsure("%s is not followed" % call.at, call.present)] * outputs
