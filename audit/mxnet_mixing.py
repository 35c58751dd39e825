"""Steps that mix the rows of a batch; see `mxnet_graphs.py`."""

import mxnet as mx

S = mx.sym


def batch_mean(b, x):
    return S.broadcast_sub(x, S.mean(x, axis=0, keepdims=True))


def whole_maximum(b, x):
    return S.broadcast_div(x, S.max(S.abs(x), keepdims=True) + 0.1)


def batch_softmax(b, x):
    return S.softmax(x, axis=0)


def running_rows(b, x):
    return S.cumsum(x, axis=0)


def first_row(b, x):
    return S.broadcast_sub(x, S.slice_axis(x, axis=0, begin=0, end=1))


def gram(b, x):
    rows = S.Flatten(x)
    return S.dot(S.softmax(S.dot(rows, rows, transpose_b=True)), rows)


def backwards(b, x):
    return x + S.reverse(x, axis=0)


def as_one(b, x):
    return S.reshape_like(S.softmax(S.reshape(x, (1, -1))), x)


def rank_among(b, x):
    score = S.mean(S.Flatten(x), axis=1, keepdims=True)
    return S.broadcast_add(S.Flatten(x), S.sum(S.broadcast_greater(score, S.transpose(score)), axis=1, keepdims=True))


def over_the_batch(b, x):
    """Run a recurrent layer over the batch dimension as if it were time."""
    steps = S.expand_dims(S.Flatten(x), axis=1)
    width = 6 * (b.sizes(S.Flatten(x))[0] + 6 + 2)
    out = S.RNN(steps, b.weight(width), S.zeros((1, 1, 6)), state_size=6, num_layers=1, mode="rnn_tanh")
    return S.Flatten(out)


def noise(b, x):
    return b.random.choice([lambda: S.Dropout(x, p=0.5, mode="always"), lambda: x + S.random.normal_like(x)])()


def sorted_rows(b, x):
    return S.sort(x, axis=0)


def ordered_by_first(b, x):
    order = S.argsort(S.slice_axis(S.Flatten(x), axis=1, begin=0, end=1).reshape((-1,)), axis=0)
    return S.take(x, order)


def normed(b, x):
    return S.broadcast_div(x, S.norm(x, axis=0, keepdims=True) + 1.0)


def counted(b, x):
    return S.broadcast_div(x, S.sum(S.ones_like(x), axis=0, keepdims=True))


def channels_of_all(b, x):
    """Subtract the mean over all dimensions except the channels, which includes the batch."""
    return S.broadcast_sub(x, S.mean(x, axis=1, exclude=True, keepdims=True))


def quantized(b, x):
    whole, low, high = S.contrib.quantize_v2(x, out_type="int8")
    return S.contrib.dequantize(whole, low, high)


STEPS = [batch_mean, whole_maximum, batch_softmax, running_rows, first_row, gram, backwards, as_one, rank_among,
         over_the_batch, noise, sorted_rows, ordered_by_first, normed, counted, channels_of_all, quantized]  # fmt: skip


# Endings after which an output has a different number of rows than the input.


def pairs(b, x):
    return S.reshape(S.concat(S.Flatten(x), S.Flatten(x), dim=1), (-1, b.sizes(S.Flatten(x))[0]))


def turned_out(b, x):
    return S.transpose(S.Flatten(x))


def total(b, x):
    return S.sum(x)


ENDINGS = [pairs, turned_out, total]
