"""Check the input ranges that are read from MXNet symbols: `PYTHON ranges.py FOLDER`, in the runtime's environment.

Each symbol is loaded as for serving. A failed check raises.
"""

import importlib.util
import sys
from pathlib import Path

import mxnet as mx

ROOT = Path(__file__).resolve().parents[3] / "runtimes"
spec = importlib.util.spec_from_file_location("runtimes", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
sys.modules["runtimes"] = importlib.util.module_from_spec(spec)

from runtimes.contract import InputRange, LoadOptions, TensorSpec  # noqa: E402
from runtimes.mxnet.runtime import load  # noqa: E402

S, FOLDER = mx.sym, Path(sys.argv[1])
x, i = S.var("x"), S.var("i")


def ranges(symbol, parameters=(), **shapes):
    """Return a symbol's input ranges. shapes: the declared shapes of its inputs; parameters: name → shape."""
    symbol.save(str(FOLDER / "model-symbol.json"))
    saved = {"arg:" + name: mx.nd.zeros(shape) for name, shape in dict(parameters, unused=(1,)).items()}
    mx.nd.save(str(FOLDER / "model-0000.params"), saved)
    declared = tuple(TensorSpec(name, "FP32", shape) for name, shape in shapes.items())
    return load(LoadOptions(str(FOLDER / "model-symbol.json"), declared)).input_ranges("default")


def rows(count, name="i"):
    return {name: InputRange(0, count - 1, rows=True)}


words = {"w_weight": (300, 4), "s_weight": (52, 4)}
w, s = S.var("w_weight"), S.var("s_weight")
table = {"input_dim": 300, "output_dim": 4}
assert ranges(S.Embedding(i, w, **table), words) == rows(300)
both = S.Embedding(i, w, **table) + S.take(s, S.reshape(S.expand_dims(i, axis=1), (-1, 3)) + 2)
assert ranges(both, words) == {"i": InputRange(0, 49, True, tables_differ=True)}
assert ranges(S.take(w, S.cast(i, "int32"), axis=1), words) == rows(4)
assert ranges(S.take(w, i, mode="raise"), words) == rows(300)
assert ranges(S.take(w, i, mode="wrap"), words) == {}
assert ranges(S.take(w, S.relu(i)), words) == rows(300)
assert ranges(S.take(w, S.where(i < 0, i + 300, i)), words) == rows(300)
assert ranges(S.one_hot(i, depth=10), words) == {"i": InputRange(0, 9)}

# Sizes of computed arrays count if they are the same for every shape that the inputs may have.
scores = S.log_softmax(S.FullyConnected(x, S.var("f_weight"), num_hidden=7, no_bias=True))
dense = {"f_weight": (7, 5)}
assert ranges(S.pick(scores, i), dense, x=(-1, 5), i=(-1,)) == rows(7)
assert ranges(S.pick(scores, i, mode="wrap"), dense, x=(-1, 5), i=(-1,)) == {}
assert ranges(S.pick(scores, i, axis=0), dense, x=(-1, 5), i=(7,)) == {}, "as many as there are rows"
assert ranges(S.pick(scores, i), dense) == {}, "no shape is known"
assert ranges(S.batch_take(scores, S.cast(i, "int32")), dense, x=(-1, 5), i=(-1,)) == rows(7)
parts = S.split(x, num_outputs=2, axis=1)
assert ranges(S.pick(parts[0], i), x=(-1, 6), i=(-1,)) == rows(3)
assert ranges(S.gather_nd(w, i), words, i=(1, -1)) == rows(300)
assert ranges(S.gather_nd(w, i), words, i=(2, -1)) == rows(4)
assert ranges(S.gather_nd(w, i), words, i=(-1, -1)) == {}

# Clips of sums and products with constants.
assert ranges(S.clip((x / 255 - 0.5) * 2, -1, 1)) == {"x": InputRange(0, 255)}
assert ranges(S.clip(-(1 - x), 0, 6)) == {"x": InputRange(1, 7)}
assert ranges(S.minimum(S.maximum(x, -2), 3)) == {"x": InputRange(-2, 3)}
assert ranges(S.minimum(S.Activation(x, act_type="relu"), 3)) == {"x": InputRange(0, 3)}
assert ranges(S.maximum(x, -2)) == {}
assert ranges(S.clip(x * 0, -1, 1)) == {}
calibrated = S.contrib.quantize_v2(x, min_calib_range=-3.0, max_calib_range=5.0)[0]
assert ranges(calibrated) == {"x": InputRange(-3, 5)}
assert ranges(S.contrib.quantize_v2(x)[0]) == {}
