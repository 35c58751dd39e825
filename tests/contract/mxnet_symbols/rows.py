"""Check the analysis of rows in MXNet's symbols: `PYTHON rows.py`, in the runtime's environment."""

import importlib.util
import sys
from pathlib import Path

import mxnet as mx

ROOT = Path(__file__).resolve().parents[3] / "runtimes"
spec = importlib.util.spec_from_file_location("runtimes", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
sys.modules["runtimes"] = importlib.util.module_from_spec(spec)

from runtimes.contract import BatchAnalysis, Signature, TensorSpec  # noqa: E402
from runtimes.mxnet.analysis.read import analyze  # noqa: E402

S = mx.sym


def read(symbol, *sizes):
    """Return the analysis for an input of [n, *sizes]; all other arguments of the symbol are parameters."""
    inputs = (TensorSpec("data", "FP32", (-1, *sizes)),)
    names = symbol.list_outputs()
    given = symbol.list_arguments() + symbol.list_auxiliary_states()
    shapes, _, states = symbol.infer_shape(data=(1, *sizes))
    known = dict(zip(given, shapes + states))  # noqa: B905 - Python 3.8
    known = {name: shape for name, shape in known.items() if name != "data" and not name.endswith("_label")}
    signature = Signature(inputs, tuple(TensorSpec(name, "FP32") for name in names))
    return analyze(symbol.tojson(), known, signature, names)


def independent_ones(x):
    picture = S.Pooling(S.BatchNorm(S.Convolution(x, num_filter=4, kernel=(3, 3))), kernel=(2, 2), stride=(2, 2))
    yield S.SoftmaxOutput(S.FullyConnected(S.Flatten(picture), num_hidden=3), name="softmax"), (3, 8, 8)
    yield S.FullyConnected(S.reshape(picture, (-1, 36)), num_hidden=3), (3, 8, 8)
    yield S.Dropout(S.LayerNorm(x)), (5, 6)
    yield S.reshape(S.tanh(S.reshape(x, (-3, 0))), (-4, -1, 5, 0)), (5, 6)
    yield S.batch_dot(S.softmax(S.batch_dot(x, x, transpose_b=True)), x), (5, 6)
    mixed = S.transpose(x, (1, 0, 2))
    weights = S.softmax(S.contrib.interleaved_matmul_selfatt_qk(mixed, heads=2))
    yield S.transpose(S.contrib.interleaved_matmul_selfatt_valatt(mixed, weights, heads=2), (1, 0, 2)), (5, 24)
    states = [S.zeros((1, 0, 4)), S.zeros((1, 0, 4))]
    out = S.RNN(mixed, S.var("rnn_parameters"), *states, state_size=4, num_layers=1, mode="lstm")
    yield S.SequenceLast(out), (5, 6)
    yield S.broadcast_sub(x, S.mean(x, axis=0, exclude=True, keepdims=True)), (5, 6)
    yield S.contrib.box_nms(x), (5, 6)
    yield S.reshape(S.repeat(x, repeats=2), (-1, 60)), (5, 6)
    yield S.UpSampling(x, -x, scale=2, sample_type="nearest", num_args=2), (3, 4, 4)
    yield S.Crop(x, S.var("w", shape=(1, 3, 4, 4)), num_args=2), (3, 8, 8)
    yield S.where(S.max(x, axis=(1, 2)) > 0, x, -x), (5, 6)


def mixing_ones(x):
    yield S.broadcast_sub(x, S.mean(x, axis=0, keepdims=True)), "reduces over the rows"
    yield S.broadcast_div(x, S.max(x, keepdims=True)), "reduces over the rows"
    yield S.broadcast_like(S.mean(x, axis=0, keepdims=True), x), "reduces over the rows"
    yield S.softmax(x, axis=0), "normalizes over the rows"
    yield S.Dropout(x, mode="always"), "is random"
    yield S.random.normal_like(x), "is random"
    yield S.dot(x, x, transpose_b=True), "pairs each row with every other"
    yield S.reshape(x, (-1, 3)), "several rows for each row"
    yield S.reshape_like(S.softmax(S.reshape(x, (1, -1))), x), "normalizes over the rows"
    yield S.transpose(x), "has the batch along dimension 1"
    yield S.sort(x, axis=0), "sorts the rows"
    yield S.SequenceReverse(x), "goes from row to row"
    yield S.contrib.dequantize(*S.contrib.quantize_v2(x, out_type="int8")), "computes one scale from all rows"
    states = [S.zeros((1, 1, 4))]
    every = S.RNN(S.expand_dims(x, 1), S.var("rnn_parameters"), *states, state_size=4, num_layers=1, mode="gru")
    yield every, "runs from row to row"


def unclear_ones(x):
    """Yield symbols over [n, 4, 6] whose results depend on the number or position of rows."""
    sizes = S.shape_array(x)
    count = S.slice_axis(sizes, axis=0, begin=0, end=1)
    yield S.broadcast_mul(x, S.one_hot(count, depth=6))
    yield S.broadcast_mul(
        x, S.cast(S.slice_axis(S.repeat(sizes, repeats=2, axis=0), axis=0, begin=0, end=1), "float32")
    )
    corner = S.slice(S.expand_dims(sizes, axis=0), begin=(0, 0), end=(1, 1))
    yield S.broadcast_mul(x, S.cast(S.expand_dims(corner, axis=0), "float32"))
    yield S.transpose(S.contrib.div_sqrt_dim(S.transpose(x, (1, 2, 0))), (2, 0, 1))
    yield S.split_v2(S.concat(x, x, dim=0), (1,), axis=0)[0]
    flat = S.Flatten(x)
    yield S.broadcast_mul(flat, S.cast(S.broadcast_like(S.reshape(count, (1, 1)), flat), "float32"))
    label = S.var("softmax_label")
    many = S.cast(S.shape_array(S.ones_like(label)), "float32")
    yield S.Group([S.SoftmaxOutput(flat, label), S.broadcast_mul(flat, S.reshape(many, (1, 1)))])
    picture = S.reshape(x, (0, 1, 4, 6))
    yield S.Crop(S.var("w", shape=(1, 1, 8, 8)), picture, num_args=2)
    yield S.Correlation(picture, S.var("w", shape=(1, 1, 4, 6)), kernel_size=1, max_displacement=1)
    yield S.BilinearSampler(picture, S.var("w", shape=(1, 2, 4, 6)))
    yield S.batch_dot(x, S.var("w", shape=(1, 6, 4)))
    yield S.where(S.var("w", shape=(1,)), x, -x)
    yield S.reshape(x, (-2, 2))
    scores = S.softmax(S.reshape(x, (0, 3, 8)), axis=1)
    yield S.contrib.MultiBoxDetection(scores, S.var("w", shape=(1, 32)), S.var("a", shape=(1, 8, 4)))


data = S.var("data")
for symbol, sizes in independent_ones(data):
    found = read(symbol, *sizes)
    assert found == BatchAnalysis(), (symbol.list_outputs(), found)

for symbol in unclear_ones(data):
    found = read(symbol, 4, 6)
    assert found.unknown, (symbol.list_outputs(), found)

for symbol, words in mixing_ones(data):
    found = read(symbol, 6)
    assert any(words in reason for reason in found.mixes), (symbol.list_outputs(), words, found)

# The numpy interface has operators of its own. Here, a scalar and a row of numbers meet rows of any number.
with mx.util.np_shape(True), mx.util.np_array(True):
    x, v, w = (S.var(name).as_np_ndarray() for name in ("data", "v", "w"))
    N = S.np
    rows = Signature((TensorSpec("data", "FP32", (-1, 6)),), (TensorSpec("y", "FP32"),))

    def read_numpy(symbol):
        return analyze(symbol.tojson(), {"v": (), "w": (6,)}, rows, ["y"])

    for symbol in (
        N.tanh(x * 2 - w) / v,
        x - N.mean(x, axis=1, keepdims=True),
        N.where(x > w, 1 / x, N.maximum(x, v)),
        N.argmax(x, axis=-1),
    ):
        assert read_numpy(symbol) == BatchAnalysis(), (symbol.list_outputs(), read_numpy(symbol))
    for symbol in (x - N.mean(x, axis=0, keepdims=True), x / N.max(x), N.std(x, axis=0) + x):
        found = read_numpy(symbol)
        assert any("reduces over the rows" in reason for reason in found.mixes), (symbol.list_outputs(), found)

# A random operator behind more reasons than are reported.
many = S.add_n(*[S.broadcast_sub(data, S.mean(data, axis=0, keepdims=True)) for _ in range(12)])
found = read(many + S.random.normal_like(data), 6)
assert found.varies.endswith("is random"), found

# Numbers that no real file contains are not followed, and the analysis ends soon.
for attributes in ({"num_outputs": 2}, {"num_outputs": 2, "axis": 2}):
    text = S.split(data, **attributes)[0].tojson().replace('"num_outputs": "2"', '"num_outputs": "100000000"')
    signature = Signature((TensorSpec("data", "FP32", (-1, 4, 6)),), (TensorSpec("y", "FP32"),))
    assert analyze(text, {}, signature, ["y"]).unknown

# Other languages write flags in lower case. With this one, the mean is over the rows.
wide = S.FullyConnected(data, num_hidden=6, flatten=True, name="wide")
narrow = S.FullyConnected(data, num_hidden=6, flatten=True, name="narrow")
centred = S.broadcast_sub(wide, S.mean(narrow, axis=-2, keepdims=True)).tojson()
found = read(mx.sym.load_json(centred.replace('"True"', '"true"')), 4, 6)
assert any("reduces over the rows" in reason for reason in found.mixes), found
