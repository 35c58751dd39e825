"""Make small MXNet models, each with a case: `PYTHON mxnet.py FOLDER`, in the runtime's environment.

This file must not be imported as `mxnet`; run as a script, its folder comes first on sys.path, so
that folder is removed again.
"""

import json
import sys
from pathlib import Path

sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402
from mxnet.gluon import nn  # noqa: E402


def main(root):
    mx.random.seed(0)

    def folder(name, case):
        made = Path(root, name)
        made.mkdir(parents=True)
        (made / "case.json").write_text(json.dumps(dict({"artifact": "model-symbol.json"}, **case)))
        return str(made / "model")

    def gluon(name, net, example, case, epoch=0):
        net.initialize(mx.init.Xavier())
        net.hybridize()
        net(example)
        net.export(folder(name, case), epoch)

    dense = nn.HybridSequential()
    dense.add(nn.Dense(5, activation="relu"), nn.BatchNorm(), nn.Dense(3))
    declared = {"options": {"inputs": [["data", "FP32", [-1, 4]]]}}
    gluon("dense", dense, mx.nd.ones((2, 4)), dict(declared, bad=[{"data": [[1.0] * 5]}]))
    # The last epoch is served; the first file is not even readable.
    gluon("epochs", dense, mx.nd.ones((2, 4)), declared, epoch=12)
    Path(root, "epochs", "model-0000.params").write_bytes(b"hello")

    path = folder("half", {"options": {"inputs": [["data", "FP16", [-1, 4]]]}})
    data = mx.sym.Variable("data")
    mx.sym.broadcast_mul(data, mx.sym.Variable("scale_weight"), name="scale").save(path + "-symbol.json")
    mx.nd.save(path + "-0000.params", {"arg:scale_weight": mx.nd.ones((1, 4), dtype="float16")})

    x, i = mx.sym.Variable("x"), mx.sym.Variable("i")
    table = mx.sym.Variable("table_weight")
    several = mx.sym.Group([x * 2, mx.sym.take(table, i, mode="raise", name="taken")])
    path = folder("several", {"values": {"x": [[1.0, 2.0]], "i": [1]}, "bad": [{"i": [9]}], "not_batchable": True})
    several.save(path + "-symbol.json")
    mx.nd.save(path + "-0000.params", {"arg:table_weight": mx.nd.array(np.arange(6).reshape(3, 2))})

    label = mx.sym.SoftmaxOutput(
        mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=3, name="fc"), name="softmax"
    )
    expected = {"inputs": [["data", "FP32", [-1, 4]]], "outputs": [["softmax_output", "FP32", [-1, 3]]]}
    path = folder("label_and_shapes", {"expected_signature": expected})
    label.save(path + "-symbol.json")
    Path(path + "-shapes.json").write_text(json.dumps([{"name": "data", "shape": [7, 4]}]))
    mx.nd.save(path + "-0003.params", {"arg:fc_weight": mx.nd.ones((3, 4)), "arg:fc_bias": mx.nd.zeros((3,))})

    ids, a = mx.sym.Variable("ids"), mx.sym.Variable("a")
    rows = mx.sym.Embedding(ids, table, input_dim=40000, output_dim=1)
    tables = mx.sym.broadcast_add(rows, mx.sym.clip(a / 2, 1, 7), name="y")
    ends = {"values": {"ids": [39999.0, 0.0], "a": [[4.0], [99.0]]}, "expected_values": {"y_output": [[40001], [7]]}}
    path = folder("tables", dict(ends, ranges={"ids": [0, 39999, True], "a": [2, 14, False]}))
    tables.save(path + "-symbol.json")
    mx.nd.save(path + "-0000.params", {"arg:table_weight": mx.nd.array(np.arange(40000).reshape(-1, 1))})

    # Some operators raise Python's built-in errors.
    beyond = ["model-symbol.json", {"i": [[9]]}, "client", "index 9 is out of bounds for axis 0 with size 3"]
    # Other operators check nothing, and read or write outside their arrays.
    last = mx.sym.SequenceLast(mx.sym.split(x, num_outputs=2, axis=2)[1], i + 1, use_sequence_length=True)
    steps = [[[1.0, 2.0]], [[3.0, 4.0]]]
    region = [0.0, 0.0, 1.0, 1.0]
    unsafe = {
        "last": (last, {"x": steps, "i": [2.0]}, "SequenceLast gets 3"),
        "reverse": (mx.sym.SequenceReverse(x, i, use_sequence_length=True), {"x": steps, "i": [3.0]}, "gets 3"),
        "mask": (mx.sym.SequenceMask(x, i, use_sequence_length=True), {"x": steps, "i": [-1.0]}, "gets -1"),
        "scatter": (mx.sym.scatter_nd(x, i, shape=(3,)), {"x": [1.0], "i": [[3]]}, "scatter_nd gets 3"),
        "gather": (mx.sym.gather_nd(x, i), {"x": [1.0, 2.0], "i": [[0.0, float("nan")]]}, "gather_nd gets nan"),
        "regions": (
            mx.sym.ROIPooling(x, i, pooled_size=(1, 1), spatial_scale=1.0),
            {"x": [[[[1.0, 2.0], [3.0, 4.0]]]], "i": [[1.0, *region]]},
            "ROIPooling gets 1",
        ),
        "aligned": (
            mx.sym.contrib.ROIAlign(x, i, pooled_size=(1, 1), spatial_scale=1.0),
            {"x": [[[[1.0, 2.0], [3.0, 4.0]]]], "i": [[1.0, *region]]},
            "ROIAlign gets 1",
        ),
        "softmax": (
            mx.sym.softmax(x, mx.sym.cast(i, "int32"), use_length=True),
            {"x": [[1.0, 2.0, 3.0]], "i": [4.0]},
            "softmax gets 4",
        ),
    }
    faults = [[name + "-symbol.json", values, "client", words] for name, (_, values, words) in unsafe.items()]
    path = folder("faults", {"faults": [beyond, *faults]})
    mx.sym.gather_nd(table, i).save(path + "-symbol.json")
    mx.nd.save(path + "-0000.params", {"arg:table_weight": mx.nd.ones((3, 2))})
    for name, (symbol, _, _) in unsafe.items():
        symbol.save(str(Path(path).with_name(name + "-symbol.json")))
        mx.nd.save(str(Path(path).with_name(name + "-0000.params")), {"arg:unused": mx.nd.ones(1)})
    right = {"values": {"x": steps, "i": [1.0]}, "expected_values": {"sequencelast_output": [[1.0, 2.0]]}}
    path = folder("lengths", dict(right, bad=[{"i": [0.0]}, {"i": [3.0]}], not_batchable=True))
    mx.sym.SequenceLast(x, i, use_sequence_length=True, name="sequencelast").save(path + "-symbol.json")
    mx.nd.save(path + "-0000.params", {"arg:unused": mx.nd.ones(1)})

    unknown = dict(declared, options=dict(declared["options"], parameters={"fast": True}), load_error=True)
    gluon("parameter_unknown", dense, mx.nd.ones((2, 4)), unknown)

    path = folder("missing_weight", {"load_error": True})
    label.save(path + "-symbol.json")
    mx.nd.save(path + "-0000.params", {"arg:fc_bias": mx.nd.zeros((3,))})
    path = folder("no_parameters", {"load_error": True})
    label.save(path + "-symbol.json")

    # How many rows the answer has depends on values, and those of one request must not be in the next answer.
    both, second = [[1.0, 2.0], [3.0, 4.0]], [[-1.0, 2.0], [3.0, 4.0]]
    then = [[{"x": both}, {"mask_output": both}], [{"x": second}, {"mask_output": second[1:]}]]
    given = {"values": {"x": [[1.0, 2.0], [-3.0, 4.0]]}, "expected_values": {"mask_output": [[1.0, 2.0]]}}
    path = folder("any_size", dict(given, then=then, not_batchable=True))
    first = mx.sym.slice_axis(x, axis=1, begin=0, end=1).reshape((-1,))
    mx.sym.contrib.boolean_mask(x, first > 0, name="mask").save(path + "-symbol.json")

    path = folder("truncated", {"load_error": 'Missing field "inputs"'})
    Path(path + "-symbol.json").write_text('{"nodes": [{"op": "null"')

    # A graph without parameters needs no file of them, and a label may have any name.
    path = folder("graph_only", {"values": {"x": [[1.0, 2.0]]}, "expected_values": {"loss_output": [[2.0, 4.0]]}})
    mx.sym.LinearRegressionOutput(x * 2, mx.sym.Variable("y"), name="loss").save(path + "-symbol.json")
    with mx.util.np_shape(True), mx.util.np_array(True):
        numpy_semantics(folder)


def numpy_semantics(folder):
    """Models of `npx.set_np`: scalars, sizes of 0, and operators that read and write outside their arrays."""
    x, i, v = (mx.sym.var(name).as_np_ndarray() for name in "xiv")
    edit = mx.sym.np

    def model(name, values, parameters, *outputs):
        expected = {symbol.list_outputs()[0]: array.asnumpy().tolist() for symbol, array in outputs}
        path = folder(name, {"values": values, "expected_values": expected, "not_batchable": True})
        mx.sym.Group([symbol for symbol, _ in outputs]).save(path + "-symbol.json")
        mx.npx.save(path + "-0000.params", parameters)

    values = mx.np.arange(6).reshape(2, 3)
    scaled = values * 2.5
    given = {"x": values.asnumpy().tolist(), "v": 2.5}
    model("numpy", given, {"arg:unused": mx.np.ones(())}, (edit.sum(x * v), scaled.sum()), (x * v, scaled))
    model("numpy_empty", {"x": [[]]}, {}, (x + x, mx.np.zeros((1, 0))))
    # MXNet's executor does not compute how many elements are not 0.
    declared = {"inputs": [["x", "FP32", [-1, 2]]]}
    nonzero = mx.sym.npx.nonzero(x)
    nonzero.save(folder("numpy_sizes", {"options": declared, "load_error": True}) + "-symbol.json")
    double = x + x
    expected = {double.list_outputs()[0]: [[2.0, 4.0]]}
    refused = nonzero.list_outputs()
    case = {"options": declared, "values": {"x": [[1.0, 2.0]]}, "expected_values": expected, "refused": refused}
    mx.sym.Group([double, nonzero]).save(folder("numpy_size", case) + "-symbol.json")
    inserted = mx.np.insert(mx.np.array([1.0, 2.0]), mx.np.array([2], dtype="int64"), mx.np.array([9.0]))
    given = {"x": [1.0, 2.0], "i": [2], "v": [9.0]}
    model("numpy_insert", given, {}, (edit.insert(x, i, v, axis=0), inserted))

    beyond = [
        ["inserted-symbol.json", {"x": [1.0, 2.0], "v": [9.0], "i": [3]}, "client", "_npi_insert_tensor gets 3"],
        ["deleted-symbol.json", {"x": [1.0, 2.0], "i": [-3]}, "client", "_npi_delete gets -3"],
    ]
    beyond.append(["nonzero-symbol.json", {"x": [[1.0, 0.0]]}, "client", "its shape depends on values"])
    path = Path(folder("numpy_faults", {"faults": beyond}))
    mx.sym.npx.nonzero(x).save(str(path.with_name("nonzero-symbol.json")))
    edit.insert(x, i, v, axis=0).save(str(path.with_name("inserted-symbol.json")))
    edit.delete(x, i, axis=0).save(str(path.with_name("deleted-symbol.json")))


if __name__ == "__main__":
    main(sys.argv[1])
