"""What is read from graphs about their rows, against what LiteRT does: `PYTHON rows.py FOLDER`, in its environment."""

import importlib.util
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()
ROOT = HERE.parents[3] / "runtimes"
spec = importlib.util.spec_from_file_location("runtimes", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
sys.modules["runtimes"] = importlib.util.module_from_spec(spec)
sys.path.insert(0, str(HERE.parents[1] / "make"))

from tflite import INT32, File, Op, Type, schema  # noqa: E402

from runtimes.contract import LoadOptions  # noqa: E402
from runtimes.tflite.analysis.read import analyse  # noqa: E402
from runtimes.tflite.entries import read  # noqa: E402
from runtimes.tflite.runtime import load  # noqa: E402

FOLDER = Path(sys.argv[1])


def options(name, **fields):
    made = getattr(schema, name + "OptionsT")()
    for field, value in fields.items():
        setattr(made, field, value)
    return made


class Net:
    """A chain of operators upon x of [n, 3, 4]."""

    def __init__(self):
        self.file = File()
        self.graph = self.file.graph()
        self.x = self.graph.input("x", [-1, 3, 4])

    def ints(self, *values):
        return self.graph.constant(np.array(values, np.int32))

    def number(self, value):
        return self.graph.constant(np.array(value, np.int32))

    def floats(self, *sizes):
        return self.graph.constant(np.random.RandomState(0).standard_normal(sizes).astype(np.float32))

    def op(self, name, inputs, made=None, shape=(-1, 3, 4), datatype=Type.FLOAT32, count=1):
        results = [self.graph.tensor(name.lower(), shape, datatype) for _ in range(count)]
        self.graph.run(getattr(Op, name), inputs, results, made)
        return results if count > 1 else results[0]

    def found(self, result):
        """The analysis; what it shows to be independent runs, too."""
        self.graph.made.outputs = [result]
        path = FOLDER / "rows.tflite"
        path.write_bytes(self.file.bytes())
        entry = read(path.read_bytes()).entries["default"]
        found = analyse(path.read_bytes(), entry, entry.signature)
        if found.independent:
            model = load(LoadOptions(str(path)))
            rows = np.random.RandomState(1).standard_normal([3, 3, 4]).astype(np.float32)
            rows *= np.reshape(np.array([1, 100, 0.1], np.float32), [3, 1, 1])
            together = next(iter(model.infer({"x": rows}, [], "default").values()))
            alone = [next(iter(model.infer({"x": row[None]}, [], "default").values())) for row in rows]
            assert np.allclose(together, np.concatenate(alone), 1e-5, 1e-5), (together, alone)
        return found


def vector(net):
    return net.op("RESHAPE", [net.x, net.ints(-1, 12)], shape=[-1, 12])


def independent_ones():
    def dense(net):
        return net.op("FULLY_CONNECTED", [vector(net), net.floats(5, 12), -1], options("FullyConnected"), [-1, 5])

    def heads(net):
        turned = net.op("TRANSPOSE", [net.x, net.ints(0, 2, 1)], shape=[-1, 4, 3])
        scores = net.op("BATCH_MATMUL", [net.x, turned], options("BatchMatMul"), [-1, 3, 3])
        weights = net.op("SOFTMAX", [scores], options("Softmax", beta=1.0), [-1, 3, 3])
        return net.op("BATCH_MATMUL", [weights, net.x], options("BatchMatMul"))

    def by_its_shape(net):
        size = net.op("SHAPE", [net.x], options("Shape", outType=INT32), [3], INT32)
        masks = options("StridedSlice", shrinkAxisMask=1)
        count = net.op("STRIDED_SLICE", [size, net.ints(0), net.ints(1), net.ints(1)], masks, [], INT32)
        wanted = net.op("PACK", [count, net.number(12)], options("Pack", valuesCount=2), [2], INT32)
        return net.op("RESHAPE", [net.x, wanted], shape=[-1, 12])

    def a_part(net):
        return net.op("SLICE", [net.x, net.ints(0, 1, 0), net.ints(-1, 2, 3)], shape=[-1, 2, 3])

    def mean(net):
        return net.op("MEAN", [net.x, net.ints(1)], options("Reducer"), [-1, 4])

    def padded(net):
        pairs = net.graph.constant(np.array([[0, 0], [1, 1], [0, 2]], np.int32))
        return net.op("PAD", [net.x, pairs], shape=[-1, 5, 6])

    def halves(net):
        one, two = net.op("SPLIT", [net.number(2), net.x], options("Split", numSplits=2), [-1, 3, 2], count=2)
        return net.op("CONCATENATION", [two, one], options("Concatenation", axis=-1))

    def chosen(net):
        return net.op("GATHER", [net.x, net.ints(2, 0)], options("Gather", axis=1), [-1, 2, 4])

    return [dense, heads, by_its_shape, a_part, mean, padded, halves, chosen]


def mixing_ones():
    def over_the_rows(net):
        return net.op(
            "SUB", [net.x, net.op("MEAN", [net.x, net.ints(0)], options("Reducer", keepDims=True), [-1, 3, 4])]
        )

    def one_row_only(net):
        return net.op("RESHAPE", [net.x, net.ints(1, 12)], shape=[-1, 12])

    def all_in_one(net):
        whole = net.op("RESHAPE", [net.x, net.ints(1, -1)], shape=[-1, 12])
        soft = net.op("SOFTMAX", [whole], options("Softmax", beta=1.0), [-1, 12])
        return net.op("RESHAPE", [soft, net.ints(-1, 3, 4)])

    def by_half_rows(net):
        return net.op("RESHAPE", [net.x, net.ints(-1, 6)], shape=[-1, 6])

    def reversed_(net):
        return net.op("REVERSE_V2", [net.x, net.ints(0)])

    def first(net):
        return net.op("SUB", [net.x, net.op("SLICE", [net.x, net.ints(0, 0, 0), net.ints(1, -1, -1)])])

    def cut_rows(net):
        """A matrix that is half as wide as a row takes each for two."""
        flat = net.op("RESHAPE", [net.x, net.ints(-1, 12)], shape=[-1, 12])
        return net.op("FULLY_CONNECTED", [flat, net.floats(5, 6), -1], options("FullyConnected"), [-1, 5])

    def random(net):
        size = net.op("SHAPE", [net.x], options("Shape", outType=INT32), [3], INT32)
        return net.op("ADD", [net.x, net.op("RANDOM_UNIFORM", [size])], options("Add"))

    def a_state_of_one_row(net):
        hidden = net.graph.tensor("hidden", [1, 5], variable=True)
        weights = [net.floats(5, 4), net.floats(5, 5), net.floats(5)]
        return net.op("UNIDIRECTIONAL_SEQUENCE_RNN", [net.x, *weights, hidden], options("SequenceRNN"), [-1, 3, 5])

    return {
        over_the_rows: "MEAN 'mean' reduces over the rows",
        one_row_only: "allows one number of rows only",
        all_in_one: "normalises over the rows",
        by_half_rows: "has several rows for each row of the inputs",
        reversed_: "reverses the rows",
        first: "takes some of the rows only",
        cut_rows: "has several rows for each row of the inputs",
        random: "RANDOM_UNIFORM",
        a_state_of_one_row: "allows one number of rows only",
    }


for make in independent_ones():
    net = Net()
    found = net.found(make(net))
    assert found.independent, (make.__name__, found)

for make, words in mixing_ones().items():
    net = Net()
    found = net.found(make(net))
    assert any(words in reason for reason in found.mixes), (make.__name__, found)
