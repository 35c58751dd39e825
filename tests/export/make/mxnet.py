"""Make the export table's MXNet models: `PYTHON mxnet.py FOLDER`, in the runtime's environment.

This file must not be imported as `mxnet`; run as a script, its folder comes first on sys.path, so
that folder is removed again.
"""

import sys
from pathlib import Path

sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import mxnet as mx  # noqa: E402
from mxnet.gluon import HybridBlock, nn, rnn  # noqa: E402


class Lstm(HybridBlock):
    def __init__(self):
        super().__init__()
        self.lstm = rnn.LSTM(5, bidirectional=True, layout="NTC", input_size=6)
        self.dense = nn.Dense(3, in_units=10)

    def hybrid_forward(self, F, x):
        steps = self.lstm(x)
        return steps, self.dense(F.slice_axis(steps, axis=1, begin=6, end=7))


class Attention(HybridBlock):
    def __init__(self):
        super().__init__()
        self.before, self.after = nn.LayerNorm(in_channels=16), nn.LayerNorm(in_channels=16)
        self.query, self.key, self.value, self.out = [
            nn.Dense(16, flatten=False, in_units=16, prefix=name) for name in ("query_", "key_", "value_", "out_")
        ]
        self.wide = nn.Dense(32, flatten=False, in_units=16, prefix="wide_")
        self.narrow = nn.Dense(16, flatten=False, in_units=32, prefix="narrow_")
        self.gelu = nn.GELU()

    def hybrid_forward(self, F, x):
        y = self.before(x)
        query, key, value = self.query(y), self.key(y), self.value(y)
        weights = F.softmax(F.batch_dot(query, key, transpose_b=True) / 4)
        x = x + self.out(F.batch_dot(weights, value))
        return x + self.narrow(self.gelu(self.wide(self.after(x))))


class Branch(HybridBlock):
    def hybrid_forward(self, F, x):
        return F.contrib.cond(F.sum(x) > 0, lambda: x * 2, lambda: x - 1)


class Multi(HybridBlock):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4, prefix="table_")
        self.dense = nn.Dense(4, in_units=3, prefix="numbers_")

    def hybrid_forward(self, F, tokens, features):
        words, numbers = F.mean(self.table(tokens), axis=1), self.dense(features)
        return F.sigmoid(words + numbers), words - numbers


def main(root):
    mx.random.seed(0)

    def write(name, net, inputs, outputs):
        """Write a model. inputs: name → example; outputs: names."""
        folder = Path(root, name, "1")
        folder.mkdir(parents=True)
        net.initialize(mx.init.Xavier())
        net.hybridize()
        net(*inputs.values())
        symbol = net(*[mx.sym.Variable(key) for key in inputs])
        symbol = mx.sym.Group(symbol) if isinstance(symbol, (list, tuple)) else symbol
        save(folder, name, symbol, inputs, outputs, net.collect_params())

    def save(folder, name, symbol, inputs, outputs, parameters):
        symbol.save(str(folder / "model-symbol.json"))
        states = set(symbol.list_auxiliary_states())
        kept = {("aux:" if key in states else "arg:") + key: value.data() for key, value in parameters.items()}
        kept = kept or {"arg:none": mx.nd.zeros(1)}
        mx.nd.save(str(folder / "model-0000.params"), kept)
        form = "[[{}]]\nname = {!r}\ndatatype = {!r}\nshape = {}\n"
        lines = [
            form.format("inputs", key, "INT64" if key == "tokens" else "FP32", [-1, *value.shape[1:]])
            for key, value in inputs.items()
        ]
        lines += [form.format("outputs", key, "FP32", shape) for key, shape in outputs.items()]
        (folder.parent / "model.toml").write_text("\n".join(lines))

    def sequential(*layers):
        made = nn.HybridSequential()
        made.add(*layers)
        return made

    random = mx.nd.random.normal
    mlp = sequential(nn.Dense(16, activation="relu"), nn.Dense(4), nn.HybridLambda("softmax"))
    write("mlp", mlp, {"x": random(shape=(2, 12))}, {"scores": [-1, 4]})
    norm = nn.BatchNorm(
        gamma_initializer=mx.init.Uniform(2), beta_initializer="normal", running_mean_initializer="normal"
    )
    grouped = nn.Conv2D(8, 3, padding=1, groups=2, in_channels=4)
    cnn = sequential(grouped, norm, nn.Activation("relu"), nn.MaxPool2D(), nn.Flatten(), nn.Dense(5))
    write("cnn", cnn, {"image": random(shape=(2, 4, 12, 10))}, {"scores": [-1, 5]})
    fcn = sequential(
        nn.Conv2D(6, 3, strides=2, padding=1, activation="relu"),
        nn.Conv2DTranspose(6, 2, strides=2, activation="relu"), nn.Conv2D(5, 1),
    )  # fmt: skip
    write("fcn", fcn, {"image": random(shape=(2, 3, 8, 12))}, {"mask": [-1, 5, 8, 12]})
    write("lstm", Lstm(), {"x": random(shape=(2, 7, 6))}, {"steps": [-1, 7, 10], "scores": [-1, 3]})
    write("attention", Attention(), {"x": random(shape=(2, 6, 16))}, {"y": [-1, 6, 16]})
    write("branch", Branch(), {"x": random(shape=(2, 4))}, {"y": [-1, 4]})
    multi = {"tokens": mx.nd.array([[1, 2, 3, 4, 5]] * 2, dtype="int64"), "features": random(shape=(2, 3))}
    write("multi", Multi(), multi, {"onset": [-1, 4], "note": [-1, 4]})
    passing = nn.HybridLambda(lambda F, x: (F.identity(x), x * 2 + 1))
    write("passing", passing, {"x": random(shape=(2, 3))}, {"same": [-1, 3], "other": [-1, 3]})
    names = nn.HybridLambda(lambda F, b, a: (b - a) * 3)
    examples = {"serving:in/b:0": random(shape=(2, 4)), "serving:in/a:0": random(shape=(2, 4))}
    write("names", names, examples, {"out/y:0": [-1, 4]})
    long = nn.HybridSequential()
    long.add(nn.Conv1D(5, 3, padding=1, activation="relu"), nn.MaxPool1D(3, 1, 1))
    write("long", long, {"x": random(shape=(2, 3, 320))}, {"y": [-1, 5, 320]})


if __name__ == "__main__":
    main(sys.argv[1])
