"""Compare the analysis of graphs with what LiteRT does to rows: `PYTHON rows.py FOLDER`, in LiteRT's environment."""

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
from runtimes.tflite.analysis.read import analyze  # noqa: E402
from runtimes.tflite.entries import read  # noqa: E402
from runtimes.tflite.runtime import load  # noqa: E402

FOLDER = Path(sys.argv[1])


def options(name, **fields):
    made = getattr(schema, name + "OptionsT")()
    for field, value in fields.items():
        setattr(made, field, value)
    return made


class Net:
    """A chain of operators on x of [n, 3, 4]."""

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
        """Return the analysis; if it shows that rows are independent, the model also runs."""
        self.graph.made.outputs = [result]
        path = FOLDER / "rows.tflite"
        path.write_bytes(self.file.bytes())
        entry = read(path.read_bytes()).entries["default"]
        found = analyze(path.read_bytes(), entry, entry.signature)
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
        """Multiply by a matrix that is half as wide as a row, which splits each row into two."""
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
        all_in_one: "normalizes over the rows",
        by_half_rows: "has several rows for each row of the inputs",
        reversed_: "reverses the rows",
        first: "takes some of the rows only",
        cut_rows: "has several rows for each row of the inputs",
        random: "RANDOM_UNIFORM",
        a_state_of_one_row: "allows one number of rows only",
    }


def unclear_ones():
    """Return graphs whose results depend on the number or position of rows."""

    def sizes(net):
        return net.op("SHAPE", [net.x], options("Shape", outType=INT32), [3], INT32)

    def times(net, number):
        casts = options("Cast", inDataType=INT32, outDataType=Type.FLOAT32)
        return net.op("MUL", [net.x, net.op("CAST", [number], casts, [1, 1])], options("Mul"))

    def a_size_in_a_matrix(net):
        matrix = net.op("EXPAND_DIMS", [sizes(net), net.ints(0)], None, [1, 3], INT32)
        return times(net, net.op("SLICE", [matrix, net.ints(0, 0), net.ints(1, 1)], None, [1, 1], INT32))

    def a_size_as_a_class(net):
        count = net.op("SLICE", [sizes(net), net.ints(0), net.ints(1)], None, [1], INT32)
        levels = [net.graph.constant(np.array(level, np.float32)) for level in (1, 0)]
        return net.op("MUL", [net.x, net.op("ONE_HOT", [count, net.number(4), *levels], None, [1, 4])], options("Mul"))

    def a_size_as_a_place(net):
        count = net.op("SLICE", [sizes(net), net.ints(0), net.ints(1)], None, [1], INT32)
        places = net.op("EXPAND_DIMS", [count, net.ints(0)], None, [1, 1], INT32)
        found = net.op("GATHER", [net.floats(1, 10), places], options("Gather", axis=1, batchDims=1), [1, 1])
        return net.op("MUL", [net.x, net.op("RESHAPE", [found, net.ints(1, 1)], None, [1, 1])], options("Mul"))

    def unequal_parts(net):
        twice = net.op("CONCATENATION", [net.x, net.x], options("Concatenation", axis=0))
        wanted = [twice, net.ints(1, -1), net.number(0)]
        return net.op("SPLIT_V", wanted, options("SplitV", numSplits=2), count=2)[0]

    def from_offsets(net):
        bounds = [net.ints(0, 1, 0), net.ints(0, 2, 0), net.ints(1, 1, 1)]
        masks = options("StridedSlice", beginMask=5, endMask=5, offset=True)
        part = net.op("STRIDED_SLICE", [net.x, *bounds], masks, [-1, 2, 4])
        return net.op("RESHAPE", [part, net.ints(-1, 4)], None, [-1, 4])

    def backwards_to_one_index(net):
        bounds = [net.ints(0, 0, 1), net.ints(0, 0, 2), net.ints(1, 1, -1)]
        return net.op("STRIDED_SLICE", [net.x, *bounds], options("StridedSlice", ellipsisMask=1, shrinkAxisMask=4))

    def a_masked_index(net):
        """LiteRT uses the first size, which is the number of rows."""
        masks = options("StridedSlice", beginMask=1, shrinkAxisMask=1)
        return times(net, net.op("STRIDED_SLICE", [sizes(net), *map(net.ints, (1, 2, 1))], masks, [], INT32))

    def a_table_for_one_row(net):
        places = net.op("ARG_MAX", [net.x, net.ints(2)], options("ArgMax", outputType=INT32), [-1, 3], INT32)
        return net.op("GATHER", [net.floats(1, 10), places], options("Gather", axis=1, batchDims=1), [-1, 3])

    def a_flag_for_one_row(net):
        flag = net.graph.tensor("flag", [1], Type.BOOL, data=np.array([True]).tobytes())
        return net.op("SELECT", [flag, net.x, net.x], options("Select"))

    def one_row_added(net):
        return net.op("ADD_N", [net.x, net.floats(1, 3, 4)])

    def rows_as_weights(net):
        """The added tensor contains values of other rows."""
        flat = vector(net)
        score = net.op("MEAN", [flat, net.ints(1)], options("Reducer"), [-1])
        running = net.op("CUMSUM", [score, net.number(0)], options("Cumsum"), [-1])
        made = net.op("FULLY_CONNECTED", [net.floats(5, 12), flat, running], options("FullyConnected"), [5, -1])
        return net.op("TRANSPOSE", [made, net.ints(1, 0)], None, [-1, 5])

    def a_size_of_a_picture(net):
        """Make an image from constants; the length of one side is the number of rows."""
        count = net.op("SLICE", [sizes(net), net.ints(0), net.ints(1)], None, [1], INT32)
        wanted = net.op("CONCATENATION", [net.ints(1), count, net.ints(1, 4)], options("Concatenation"), [4], INT32)
        given = [wanted, net.floats(4, 3, 3, 2), net.floats(1, 1, 1, 2)]
        made = net.op("TRANSPOSE_CONV", given, options("TransposeConv", strideH=1, strideW=1), [1, -1, 1, 4])
        added = net.op("ADD", [net.x, made], options("Add"), [1, -1, 3, 4])
        return net.op("RESHAPE", [added, net.ints(-1, 3, 4)])

    return [a_size_of_a_picture, a_size_in_a_matrix, a_size_as_a_class, a_size_as_a_place, unequal_parts, from_offsets,
            backwards_to_one_index, a_masked_index, a_table_for_one_row, a_flag_for_one_row, one_row_added,
            rows_as_weights]  # fmt: skip


net = Net()
net.graph.made.outputs = [net.op("TANH", [net.x])]
content = net.file.bytes()
entry = read(content).entries["default"]
found = analyze(content[: len(content) // 2], entry, entry.signature)
assert found.unknown == ("the graph cannot be read",), found

for make in unclear_ones():
    net = Net()
    found = net.found(make(net))
    assert not found.independent, make.__name__

for make in independent_ones():
    net = Net()
    found = net.found(make(net))
    assert found.independent, (make.__name__, found)

for make, words in mixing_ones().items():
    net = Net()
    found = net.found(make(net))
    assert any(words in reason for reason in found.mixes), (make.__name__, found)
