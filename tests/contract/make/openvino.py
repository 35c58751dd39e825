"""Make small models of OpenVINO, each with a case: `PYTHON openvino.py FOLDER`, in the runtime's environment."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.pop(0)  # this file has the name of the package
import openvino as ov
from openvino import opset13 as ops

INFINITE = float("inf")
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


def write(root, name, model, case, **how):
    folder = Path(root, name)
    folder.mkdir(parents=True)
    if isinstance(model, bytes):
        (folder / "model.xml").write_bytes(model)
    else:
        ov.save_model(model, folder / "model.xml", compress_to_fp16=False, **how)
    (folder / "case.json").write_text(json.dumps({"artifact": "model.xml", **case}))
    return folder


def named(value, name):
    result = ops.result(value)
    result.output(0).tensor.set_names({name})
    return result


def taken(name, shape, datatype=np.float32):
    value = ops.parameter(ov.PartialShape(shape), datatype, name=name)
    value.output(0).tensor.set_names({name})
    return value


def dense(datatype=np.float32):
    x = taken("x", [-1, 4], datatype)
    product = ops.matmul(x, ops.constant(WEIGHT.astype(datatype)), False, False)
    product.set_friendly_name("product")
    return ov.Model([named(product, "y")], [x], "dense")


def adder(shape, name="x"):
    x = taken(name, shape)
    return ov.Model([named(ops.add(x, x), "y")], [x], "adder")


def state():
    """Make y = x + h, h = y, where h is kept from one run to the next."""
    x = taken("x", [-1, 2])
    kept = ops.read_value(ops.constant(np.zeros((1, 2), np.float32)), "h", ov.Type.f32, ov.PartialShape([1, 2]))
    y = ops.add(kept, x)
    first = ops.reduce_sum(y, ops.constant(np.array([0])), True)
    return ov.Model([named(y, "y")], [ops.assign(first, "h")], [x], "state")


def gathering():
    """Make a table that is read by an index, and by coordinates."""
    table = ops.constant(np.arange(8, dtype=np.float32).reshape(4, 2))
    one, other = taken("row", [-1], np.int64), taken("place", [-1, 1], np.int32)
    rows = ops.gather(table, one, ops.constant(0))
    return ov.Model([named(rows, "rows"), named(ops.gather_nd(table, other), "places")], [one, other], "gathering")


def elements():
    """Make a table of which each column is read at its own index, which OpenVINO itself checks."""
    place = taken("place", [-1, 2], np.int64)
    table = ops.constant(np.arange(8, dtype=np.float32).reshape(4, 2))
    return ov.Model([named(ops.gather_elements(table, place, 0), "y")], [place], "elements")


def written():
    """Make a vector of zeros in which ones are written at the given places."""
    place = taken("place", [-1], np.int64)
    ones = ops.broadcast(ops.constant(np.float32(1)), ops.shape_of(place))
    made = ops.scatter_elements_update(ops.constant(np.zeros(4, np.float32)), place, ones, ops.constant(0))
    return ov.Model([named(made, "y")], [place], "written")


def recurrent():
    """Make an LSTM over sequences of given lengths, which OpenVINO ignores where the number of rows is open."""
    x, lengths = taken("x", [-1, 3, 2]), taken("lengths", [-1], np.int32)
    count = ops.gather(ops.shape_of(x), ops.constant([0]), ops.constant(0))
    start = ops.broadcast(ops.constant(np.float32(0)), ops.concat([count, ops.constant(np.array([1, 2]))], 0))
    weights = ops.constant(np.ones((1, 8, 2), np.float32))
    bias = ops.constant(np.zeros((1, 8), np.float32))
    made = ops.lstm_sequence(x, start, start, lengths, weights, weights, bias, 2, "forward")
    return ov.Model([named(made.output(1), "y")], [x, lengths], "recurrent")


def peak():
    """Make rows from which the excess of the largest number of all rows over a high limit is subtracted."""
    x = taken("x", [-1, 4])
    over = ops.relu(ops.subtract(ops.reduce_max(x, ops.constant([0, 1]), False), ops.constant(np.float32(1e6))))
    return ov.Model([named(ops.subtract(x, over), "y")], [x], "peak")


def column():
    """Make the third column of matrices of any width."""
    x = taken("x", [-1, -1])
    one, other = ops.gather(x, ops.constant([2]), ops.constant(1)), ops.gather_nd(x, ops.constant([[0, 2]]))
    return ov.Model([named(one, "y"), named(other, "first")], [x], "column")


def dividing():
    x = taken("x", [-1], np.int32)
    return ov.Model([named(ops.divide(ops.constant(np.array([12], np.int32)), x), "y")], [x], "dividing")


def strings():
    x = taken("y", [-1, 2], ov.Type.string)
    return ov.Model([named(x, "y")], [x], "strings")


def several():
    a, b = taken("a", [-1, 2]), taken("b", [-1, 2])
    return ov.Model([named(ops.add(a, b), "sum"), named(ops.multiply(a, b), "product")], [a, b], "several")


def beside():
    """Make an output whose datatype no protocol has, beside one that can be served."""
    x = taken("x", [-1, 2])
    return ov.Model([named(ops.add(x, x), "y"), named(ops.convert(x, "f8e8m0"), "scales")], [x], "beside")


def narrow():
    """Make y = x for the datatypes that numpy lacks, by way of FP32."""
    kinds = ("bf16", "f8e4m3", "f8e5m2", "i4", "u4")
    inputs = [taken("x_" + kind, [-1, 3], getattr(ov.Type, kind)) for kind in kinds]
    outputs = [
        named(ops.convert(ops.convert(x, "f32"), kind), "y_" + kind) for x, kind in zip(inputs, kinds, strict=True)
    ]
    return ov.Model(outputs, inputs, "narrow")


def noisy():
    """Make y = x + noise, and the places of the numbers that are not zero."""
    x = taken("x", [-1, 2])
    noise = ops.random_uniform(ops.shape_of(x), np.float32(0), np.float32(1), "f32")
    return ov.Model([named(ops.add(x, noise), "y"), named(ops.non_zero(x), "places")], [x], "noisy")


def unnamed():
    x = ops.parameter(ov.PartialShape([-1, 2]), np.float32, name="x")
    return ov.Model([ops.relu(x)], [x], "unnamed")


def main(root):
    signature = {"inputs": [["x", "FP32", [-1, 4]]], "outputs": [["y", "FP32", [-1, 3]]]}
    ones = {"values": {"x": [[1.0, 1, 1, 1]]}, "expected_values": {"y": [[18, 22, 26]]}}
    bad = [{"x": [[1.0, 2, 3]]}, {"x": [1.0, 2, 3, 4]}]
    write(
        root,
        "dense",
        dense(),
        {"operators": {"product": "FullyConnected"}, "expected_signature": signature, "bad": bad, **ones},
    )
    double = {"values": ones["values"], "expected_signature": {"inputs": [["x", "FP64", [-1, 4]]]}}
    write(
        root,
        "double",
        dense(np.float64),
        {**double, "bad": [{"x": [[1.0, 1, 1, -1e39]]}, {"x": [[INFINITE, 1, 1, 1]]}]},
    )
    write(root, "half", dense(np.float16), {"expected_signature": {"inputs": [["x", "FP16", [-1, 4]]]}})
    texts = [["ab", "grün"], ["", "c"]]
    write(root, "strings", strings(), {"strings": True, "values": {"y": texts}, "expected_values": {"y": texts}})
    added = {"values": {"x": [[1.0, 2]]}, "expected_values": {"y": [[1, 2]]}}
    write(root, "state", state(), {"not_batchable": True, **added})
    wrong = [{"row": [4], "place": [[0]]}, {"row": [0], "place": [[4]]}, {"row": [1 << 40], "place": [[0]]}]
    right = {"values": {"row": [-1], "place": [[2]]}, "expected_values": {"rows": [[6, 7]], "places": [[4, 5]]}}
    write(root, "gathering", gathering(), {"bad": wrong, **right})
    chosen = {"values": {"place": [[1, -1], [0, 2]]}, "expected_values": {"y": [[2, 7], [0, 5]]}}
    # After a run with another shape that fails, OpenVINO would return an output of that shape.
    write(root, "elements", elements(), {**chosen, "bad": [{"place": [[0, 4]]}]})
    outside = [{"place": [4]}]
    marked = {"values": {"place": [1, -1]}, "expected_values": {"y": [0, 1, 0, 1]}, "bad": outside}
    write(root, "written", written(), {**marked, "not_batchable": True})
    sequence = [[[1.0, 1], [1, 1], [1, 1]]]
    write(
        root,
        "recurrent",
        recurrent(),
        {"values": {"x": sequence, "lengths": [3]}, "bad": [{"x": sequence, "lengths": [2]}]},
    )
    mixes = {"mixes": "ReduceMax"}  # which no trial shows
    write(root, "peak", peak(), {"values": {"x": [[1.0, 2, 3, 4]]}, "not_batchable": True, "analysis": mixes})
    third = {"values": {"x": [[1.0, 2, 3]]}, "expected_values": {"y": [[3]], "first": [3]}, "bad": [{"x": [[1.0, 2]]}]}
    write(root, "column", column(), {**third, "not_batchable": True})
    divided = {"values": {"x": [3]}, "bad": [{"x": [1, 0]}]}
    write(root, "dividing", dividing(), {**divided, "expected_signature": {"outputs": [["y", "INT32", [-1]]]}})
    rank = {"options": {"inputs": [["x", "", [-1, 3]]]}, "expected_signature": {"inputs": [["x", "FP32", [-1, 3]]]}}
    open_rank = ov.PartialShape.dynamic()
    write(root, "unranked", adder(open_rank), rank)
    declared = {"options": {"outputs": [["y", "FP32", [-1, 2]]]}}
    names = {"bf16": "BF16", "f8e4m3": "FP8_E4M3FN", "f8e5m2": "FP8_E5M2", "i4": "INT4", "u4": "UINT4"}
    types = {"outputs": [["y_" + kind, datatype, [-1, 3]] for kind, datatype in names.items()]}
    numbers = {"x_" + kind: [[1, 7, 2 if kind == "u4" else -3]] for kind in names}
    write(root, "narrow", narrow(), {"values": numbers, "expected_signature": types})
    write(root, "noisy", noisy(), {"stateful": True, "not_batchable": True, "analysis": {"mixes": "NonZero"}})
    write(root, "unnamed", unnamed(), {**declared, "expected_signature": {"outputs": [["y", "FP32", [-1, 2]]]}})
    both = {"values": {"a": [[1.0, 2]], "b": [[3.0, 4]]}, "expected_values": {"sum": [[4, 6]], "product": [[3, 8]]}}
    write(root, "several", several(), both)
    write(
        root, "beside", beside(), {"refused": ["scales"], "expected_signature": {"outputs": [["y", "FP32", [-1, 2]]]}}
    )
    write(
        root,
        "parameter_unknown",
        dense(),
        {"options": {"parameters": {"extensions": "a.so"}}, "load_error": "'device'"},
    )
    write(root, "on_a_card", dense(), {"options": {"device": "cuda"}, "load_error": "does not use CUDA"})
    no_gpu = {"options": {"parameters": {"device": "NPU"}}, "load_error": "has no device 'NPU' here"}
    write(root, "on_a_gpu", dense(), no_gpu)
    without = write(root, "weights_missing", dense(), {"load_error": "there is no file 'model.bin' beside"})
    (without / "model.bin").unlink()
    text = (Path(root) / "dense" / "model.xml").read_text()
    unknown = text.replace('type="MatMul"', 'type="Foo"')
    folder = write(root, "operator_unknown", unknown.encode(), {"load_error": "Foo"})
    (folder / "model.bin").write_bytes((Path(root) / "dense" / "model.bin").read_bytes())
    write(root, "old", b'<?xml version="1.0"?><net name="x" version="7"></net>', {"load_error": "IR of version 7"})
    write(root, "garbage", b'<net name="x"', {"load_error": True})


if __name__ == "__main__":
    main(sys.argv[1])
