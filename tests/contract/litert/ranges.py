"""Check the input ranges that are read from TensorFlow Lite graphs: `PYTHON ranges.py FOLDER`, in LiteRT's environment.

The files are not run. A failed check raises.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()
ROOT = HERE.parents[3] / "runtimes"
spec = importlib.util.spec_from_file_location("runtimes", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
sys.modules["runtimes"] = importlib.util.module_from_spec(spec)
sys.path.insert(0, str(HERE.parents[1] / "make"))

from tflite import FLOAT, INT8, INT32, File, Op, Type, schema  # noqa: E402

from runtimes.tflite.analysis.ranges import input_ranges  # noqa: E402
from runtimes.tflite.entries import read  # noqa: E402

FUSED_RELU, FUSED_RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6


class Net:
    """A graph under construction. The checks read the input ranges of a file's first graph."""

    def __init__(self, datatype=FLOAT, net=None):
        self.file = net.file if net else File()
        self.graph = self.file.graph()
        self.number = len(self.file.made.subgraphs) - 1
        self.x = self.graph.input("x", [-1, 3], datatype)

    def constant(self, array, dtype=np.float32):
        return self.graph.constant(np.asarray(array, dtype))

    def table(self, *sizes):
        return self.constant(np.zeros(sizes))

    def quantised(self, shape, datatype, scale, zero, data=None):
        number = self.graph.tensor("quantised", shape, datatype, data=data)
        how = schema.QuantizationParametersT()
        how.scale, how.zeroPoint = [scale], [zero]
        self.graph.made.tensors[number].quantization = how
        return number

    def op(self, name, *inputs, shape=(-1, 3), datatype=FLOAT, count=1, **options):
        kind = options.pop("options", None)
        made = getattr(schema, kind + "OptionsT")() if kind else None
        for field, value in options.items():
            setattr(made, field, value)
        results = [self.graph.tensor(name.lower(), shape, datatype) for _ in range(count)]
        self.graph.run(getattr(Op, name), list(inputs), results, made)
        return results if count > 1 else results[0]

    def gather(self, table, ids, **options):
        return self.op("GATHER", table, ids, options="Gather", **options)

    def returns(self, *tensors):
        self.graph.made.outputs = list(tensors)
        return self

    def found(self):
        content = self.file.bytes()
        return input_ranges(content, read(content).entries["default"])


def check(net, low, high, rows=False):
    found = net.found()
    assert set(found) == {"x"}, found
    assert np.allclose(found["x"][:2], [low, high], atol=1e-5), found
    assert found["x"].rows == rows, found


def check_none(net):
    found = net.found()
    assert found == {}, found


def of_ids(build):
    net = Net(INT32)
    return net.returns(build(net))


def of_numbers(build):
    net = Net()
    return net.returns(build(net))


def tables():
    check(of_ids(lambda n: n.gather(n.table(300, 4), n.x)), 0, 299, True)
    check(of_ids(lambda n: n.gather(n.table(2, 77), n.x, axis=1)), 0, 76, True)
    check(of_ids(lambda n: n.op("EMBEDDING_LOOKUP", n.x, n.table(50, 4))), 0, 49, True)
    check_none(of_ids(lambda n: n.gather(n.table(1, 9), n.x, axis=1, batchDims=1)))
    check_none(of_ids(lambda n: n.gather(n.x, n.x)))

    def moved(net):
        """Look ids up in one table, and ids plus two in another. The id -1 counts as the first row."""
        least = net.op("MAXIMUM", net.x, net.constant(0, np.int32), datatype=INT32, options="MaximumMinimum")
        flat = net.op("RESHAPE", least, net.constant([-1], np.int32), shape=[-1], datatype=INT32)
        part = net.op("SPLIT", net.constant(0, np.int32), flat, datatype=INT32, count=2, options="Split", numSplits=2)
        net.gather(net.table(300, 4), part[1])
        shifted = net.op("ADD", part[0], net.constant(2, np.int32), datatype=INT32, options="Add")
        return net.gather(net.table(52, 4), net.op("CAST", shifted, datatype=Type.INT64, options="Cast"))

    check(of_ids(moved), 0, 49, True)

    def stored(net):
        eight = net.quantised([90, 4], INT8, 0.5, 0, bytes(360))
        return net.gather(net.op("DEQUANTIZE", eight, shape=[90, 4]), net.x)

    check(of_ids(stored), 0, 89, True)

    def kept(net):
        handle = net.op("VAR_HANDLE", shape=[], datatype=Type.RESOURCE, options="VarHandle")
        return net.gather(net.op("READ_VARIABLE", handle, shape=[21, 4], options="ReadVariable"), net.x)

    check(of_ids(kept), 0, 20, True)

    def coordinates(width, *sizes):
        def build(net):
            points = net.op("EXPAND_DIMS", net.x, net.constant(-1, np.int32), shape=[-1, 3, 1], datatype=INT32)
            count = net.constant([1, 1, width], np.int32)
            points = net.op("TILE", points, count, shape=[-1, 3, width], datatype=INT32)
            return net.op("GATHER_ND", net.table(*sizes), points)

        return of_ids(build)

    check(coordinates(1, 60, 4), 0, 59, True)
    check(coordinates(2, 60, 4, 2), 0, 3, True)
    check_none(coordinates(-1, 60, 4))

    def from_the_end(net):
        """Count negative ids from the end of the table, as Keras 3 writes each embedding."""
        below = net.op("LESS", net.x, net.constant(0, np.int32), datatype=Type.BOOL, options="Less")
        counted = net.op("ADD", net.x, net.constant(60, np.int32), datatype=INT32, options="Add")
        return net.gather(net.table(60, 4), net.op("SELECT_V2", below, counted, net.x, datatype=INT32))

    check(of_ids(from_the_end), 0, 59, True)

    levels = [1.0, 0.0]
    check(of_ids(lambda n: n.op("ONE_HOT", n.x, n.constant(10, np.int32), *map(n.constant, levels))), 0, 9)


def limits():
    def scaled(net):
        divided = net.op("DIV", net.x, net.constant(255), options="Div")
        shifted = net.op("SUB", divided, net.constant(0.5), options="Sub")
        return net.op("RELU_N1_TO_1", net.op("MUL", shifted, net.constant(2), options="Mul"))

    check(of_numbers(scaled), 0, 255)
    mirrored = {"options": "Sub", "fusedActivationFunction": FUSED_RELU6}
    check(of_numbers(lambda n: n.op("SUB", n.constant(1), n.x, **mirrored)), -5, 1)
    check(of_numbers(lambda n: n.op("MINIMUM", n.op("RELU", n.x), n.constant(4), options="MaximumMinimum")), 0, 4)
    upper = {"options": "Add", "fusedActivationFunction": FUSED_RELU}

    def fused(net):
        added = net.op("ADD", net.x, net.constant(1), **upper)
        return net.op("MINIMUM", net.constant(4), added, options="MaximumMinimum")

    check(of_numbers(fused), -1, 3)
    check(of_numbers(lambda n: n.op("RELU6", n.op("NEG", n.x))), -6, 0)
    check(of_numbers(lambda n: n.op("FAKE_QUANT", n.x, options="FakeQuant", min=-3.0, max=5.0)), -3, 5)
    check_none(of_numbers(lambda n: n.op("RELU", n.x)))
    several = {"options": "Mul"}
    check_none(of_numbers(lambda n: n.op("RELU6", n.op("MUL", n.x, n.constant([1, 2, 3]), **several))))


def eight_bits():
    def quantised(net, datatype=INT8):
        result = net.quantised([-1, 3], datatype, 0.5, 3)
        net.graph.run(Op.QUANTIZE, [net.x], [result])
        return result

    check(of_numbers(quantised), -65.5, 62)
    check(of_numbers(lambda n: quantised(n, Type.UINT8)), -1.5, 126)
    # Every value of a quantized type is valid, and RELU6 does not clip the stored integers at 6.
    net = Net(INT8)
    check_none(net.returns(quantised(net, Type.UINT8)))
    net = Net(INT8)
    check_none(net.returns(net.op("RELU6", net.x, datatype=INT8)))


def graphs_within():
    def looks_up(rows):
        def build(inside):
            return inside.gather(inside.table(rows, 3), inside.x)

        return build

    def inner(net, build):
        inside = Net(INT32, net)
        return inside.returns(build(inside)).number

    def either(net):
        yes = net.graph.tensor("yes", [], Type.BOOL, data=b"\1")
        then, otherwise = inner(net, looks_up(40)), inner(net, looks_up(30))
        branches = {"options": "If", "thenSubgraphIndex": then, "elseSubgraphIndex": otherwise}
        return net.op("IF", yes, net.x, **branches)

    check(of_ids(either), 0, 29, True)

    def loop(changed):
        """Look ids up in a loop, and again after it. A loop variable that the body does not change keeps its range."""

        def build(net):
            goes_on = Net(INT32, net)
            goes_on.returns(goes_on.graph.tensor("yes", [], Type.BOOL, data=b"\1"))
            body = Net(INT32, net)
            body.gather(body.table(40, 3), body.x)
            body.returns(body.op("NEG", body.x, datatype=INT32, options="Neg") if changed else body.x)
            numbers = {"condSubgraphIndex": goes_on.number, "bodySubgraphIndex": body.number}
            after = net.op("WHILE", net.x, datatype=INT32, options="While", **numbers)
            return net.gather(net.table(30, 3), after)

        return of_ids(build)

    check(loop(changed=False), 0, 29, True)
    check(loop(changed=True), 0, 39, True)

    def composed(net):
        result = net.op("STABLEHLO_COMPOSITE", net.x)
        operator = net.graph.made.operators[-1]
        operator.builtinOptions2 = schema.StableHLOCompositeOptionsT()
        operator.builtinOptions2.decompositionSubgraphIndex = inner(net, looks_up(25))
        operator.builtinOptions2Type = schema.BuiltinOptions2.StableHLOCompositeOptions
        return result

    check(of_ids(composed), 0, 24, True)


tables()
limits()
eight_bits()
graphs_within()
