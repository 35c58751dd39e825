"""Compare the analysis of CNTK functions with what they do to rows: `PYTHON rows.py`, in CNTK's environment."""

import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3] / "runtimes"
FILE, FOLDERS = str(ROOT / "__init__.py"), [str(ROOT)]
spec = importlib.util.spec_from_file_location("runtimes", FILE, submodule_search_locations=FOLDERS)
sys.modules["runtimes"] = importlib.util.module_from_spec(spec)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import cntk as C

    from runtimes.cntk.analysis import analyze
    from runtimes.cntk.ranges import input_ranges
    from runtimes.contract import InputRange

L = C.layers


def vectors():
    x = C.input_variable((3, 4), name="x")
    yield L.Dense(5, activation=C.tanh)(x)
    yield C.softmax(C.reshape(x, 12)) * 2
    yield L.Sequential([L.BatchNormalization(), L.Dropout(0.5), L.LayerNormalization()])(x)
    yield C.reduce_mean(x, axis=(0, 1)) + C.reduce_max(x, axis=C.Axis.all_static_axes())
    yield C.splice(C.slice(x, 0, 0, 2), x, axis=0)
    yield C.times_transpose(C.reshape(x, 12), C.parameter((5, 12), init=C.glorot_uniform()))
    yield C.top_k(C.hardmax(x) + x, 2).outputs[0]
    yield C.times(C.transpose(x, (1, 0)), x)
    yield C.element_select(C.greater(x, 0), x, C.leaky_relu(x))


def images():
    x = C.input_variable((3, 8, 8), name="x")
    yield L.Sequential(
        [L.Convolution2D((3, 3), 4, pad=True), L.BatchNormalization(map_rank=1), C.relu, L.MaxPooling((2, 2), (2, 2))]
    )(x)
    yield L.GlobalAveragePooling()(x)
    yield L.Dense(3)(C.pad(x, [(0, 0), (1, 1), (1, 1)]))


def sequences():
    x = C.sequence.input_variable(5, name="x")
    yield L.Recurrence(L.LSTM(4))(x)
    yield L.Fold(L.GRU(4), go_backwards=True)(x)
    yield C.sequence.softmax(x) + C.sequence.broadcast_as(C.sequence.first(x), x)
    yield C.sequence.reduce_sum(L.Dense(3)(x)) + C.sequence.reduce_max(L.Dense(3)(x))
    yield C.sequence.last(C.sequence.past_value(x) + C.sequence.future_value(x))
    yield C.sequence.slice(x, 1, 3)


def mixing():
    x, s = C.input_variable((3, 4), name="x"), C.sequence.input_variable(5, name="x")
    batch = C.Axis.default_batch_axis()
    yield x - C.reduce_mean(x, axis=batch), "takes the rows together"
    inner = C.placeholder(name="inner")
    yield C.as_block(inner - C.reduce_mean(inner, axis=batch), [(inner, x)], "centered"), "takes the rows together"
    inner = C.placeholder(name="inner")
    named = C.as_block(inner - C.reduce_max(inner, axis=batch), [(inner, x)], "Sequence::Slice")
    yield named, "takes the rows together"
    yield x / C.reduce_max(x, axis=C.Axis.all_axes()), "takes the rows together"
    yield C.to_batch(C.unpack_batch(x) * 2), "takes the rows together"
    yield s * C.reduce_sum(s, axis=C.Axis.all_axes()), "takes the rows together"
    yield x + C.random.uniform_like(x), "is random"
    yield x + C.random.normal((3, 4)), "is random"
    yield C.reduce_sum(x, axis=batch), "has no rows of a batch"


def read(function):
    return analyze(function, {"x": function.arguments[0]}, {each.uid: each for each in function.outputs})


def answers(function, rows, sequence):
    found = function.eval({function.arguments[0]: list(rows) if sequence else rows}, outputs=function.outputs)
    found = list(found.values()) if isinstance(found, dict) else [found]
    return [np.stack([np.asarray(row) for row in each]) for each in found]


for functions, sizes in ((vectors, (3, 4)), (images, (3, 8, 8)), (sequences, (6, 5))):
    rows = np.random.RandomState(0).standard_normal((3, *sizes)).astype(np.float32)
    rows *= np.reshape([1, 100, 0.1], (3,) + (1,) * len(sizes)).astype(np.float32)
    for output in functions():
        function = C.combine([output]) if isinstance(output, C.Variable) else output
        found = read(function)
        assert found.independent, (function, found)
        sequence = functions is sequences
        alone = [answers(function, rows[index : index + 1], sequence) for index in range(3)]
        for output_index, together in enumerate(answers(function, rows, sequence)):
            single = np.concatenate([each[output_index] for each in alone])
            assert np.allclose(together, single, 1e-4, 1e-5), (function, together, single)

for function, words in mixing():
    found = read(function)
    assert any(words in reason for reason in found.mixes), (function, words, found)

x = C.sequence.input_variable(1, name="x")
found = read(C.sequence.gather(x, C.greater(x, 0)))
assert found.unknown, found


def ranges():
    """Yield functions with tables and clips, also in blocks, and their input ranges."""
    x, inner = C.input_variable(2, name="x"), C.placeholder(name="inner")
    table = C.parameter((30, 4), init=C.glorot_uniform())
    yield C.gather(table, C.reshape(x + 2, (2, 1))), InputRange(-2, 27, True)
    yield C.as_block(C.gather(table, C.cast(inner, np.float32)), [(inner, x)], "looked up") * 2, InputRange(0, 29, True)
    yield C.gather(table, C.clip(5 - x, 0, 29)), InputRange(-24, 5)
    yield C.one_hot(x / 4, 12), InputRange(0, 44)
    yield C.element_max(C.element_min(-x, 3), -1), InputRange(-3, 1)
    yield (
        C.gather(table, x) + C.reshape(C.gather(C.parameter((7, 4), init=0), x), (2, 4)),
        InputRange(0, 6, True, tables_differ=True),
    )
    yield C.relu(x) + C.reduce_sum(x * 2, axis=C.Axis.all_axes()), None


for function, wanted in ranges():
    found = input_ranges(function, {"x": function.arguments[0]})
    assert found == ({} if wanted is None else {"x": wanted}), (function, found)
