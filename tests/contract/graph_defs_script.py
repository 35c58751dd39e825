"""Make GraphDefs with TensorFlow 1's interface, load them as the runtime does, and print what it says, as JSON."""

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[2]))
from runtimes.contract import InvalidInput, LoadError, LoadOptions, TensorSpec
from runtimes.savedmodel import runtime
from runtimes.savedmodel.graph_def import of_graph_def
from runtimes.savedmodel.tfjs_graph import graph_def

v1 = tf.compat.v1


def scored(x):
    return tf.matmul(x, tf.constant([[1.0], [2.0]])) + 0.5


def two_ends():
    """Two answers, a node that is needed by nothing but its own effect, and a constant that is left over."""
    x = v1.placeholder(tf.float32, [None, 2], "x")
    tf.constant(1.0, name="left_over")
    v1.placeholder(tf.float32, [], "unused")
    v1.summary.scalar("seen", tf.reduce_sum(x))
    with tf.control_dependencies([v1.assert_less(x, 1e9, name="check")]):
        tf.identity(scored(x), name="scores")
    tf.nn.top_k(x, 1, name="best")
    tf.cast(x, tf.complex64, name="complex")
    tf.quantization.quantize(x, 0.0, 1.0, tf.quint8, name="quantized")


def with_default():
    x = v1.placeholder(tf.float32, [None, 2], "x")
    scale = v1.placeholder_with_default(tf.constant([[10.0, 10.0]]), [None, 2], "scale")
    tf.multiply(x, scale, name="y")


def with_long_default():
    x = v1.placeholder(tf.float32, [None], "x")
    tf.add(x, v1.placeholder_with_default([1.0, 2.0], [None], "more"), name="y")


def with_defaults_only():
    x = v1.placeholder_with_default(tf.zeros([1, 2]), [None, 2], "x")
    tf.identity(scored(x), name="y")


def with_loss():
    x = v1.placeholder(tf.float32, [None, 2], "x")
    labels = v1.placeholder(tf.float32, [None, 1], "labels")
    scores = tf.identity(scored(x), name="scores")
    tf.math.squared_difference(tf.identity(scores), labels, name="loss")
    tf.identity(scores, name="answer")


def with_table():
    words = v1.placeholder(tf.string, [None], "words")
    rows = tf.lookup.KeyValueTensorInitializer(["a", "b"], [3, 4], tf.string, tf.int64)
    tf.identity(tf.lookup.StaticHashTable(rows, -1).lookup(words), name="ids")


def with_empty_table():
    words = v1.placeholder(tf.string, [None], "words")
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="t", name="empty")
    tf.raw_ops.LookupTableFindV2(table_handle=table, keys=words, default_value=tf.constant(-1, tf.int64), name="ids")


def with_loop():
    """TensorFlow 1's control flow, from when there were no functions."""
    v1.disable_control_flow_v2()
    x = v1.placeholder(tf.float32, [None], "x")
    doubled = v1.while_loop(lambda i, y: i < 3, lambda i, y: [i + 1, y * 2.0], [tf.constant(0), x])[1]
    flag = v1.placeholder(tf.bool, [], "flag")
    tf.identity(v1.cond(flag, lambda: doubled, lambda: x), name="y")
    v1.enable_control_flow_v2()


def with_variable():
    x = v1.placeholder(tf.float32, [None], "x")
    tf.multiply(x, v1.get_variable("weight", [], use_resource=False), name="y")


def with_queue():
    queue = v1.FIFOQueue(8, [tf.float32], [[2]])
    batch = queue.dequeue_many(2, name="batch")
    tf.identity(scored(batch), name="y")


def on_a_cluster():
    with tf.device("/job:worker/task:3/device:GPU:1"):
        tf.multiply(v1.placeholder(tf.float32, [None], "x"), 2.0, name="y")


def with_python():
    x = v1.placeholder(tf.float32, [None], "x")
    tf.identity(v1.py_func(lambda array: array, [x], tf.float32), name="y")


def foreign():
    x = v1.placeholder(tf.float32, [None], "x")
    tf.identity(x, name="y")


def unknown_rank():
    tf.multiply(v1.placeholder(tf.float32, None, "x"), 2.0, name="y")


def without_inputs():
    tf.random.uniform([2], name="y")


ROW = {"x": [[1.0, 2.0]]}
CASES = {
    "two_ends": (two_ends, {}, [ROW]),
    "named": (two_ends, {"outputs": ["best:1", "scores:0"]}, [ROW]),
    "no_such_output": (two_ends, {"outputs": ["score"]}, []),
    "no_such_input": (two_ends, {"inputs": ["y"]}, []),
    "no_such_result": (two_ends, {"outputs": ["best:2"]}, []),
    "odd_result": (two_ends, {"outputs": ["best:\u00b2"]}, []),
    "input_left_out": (two_ends, {"inputs": ["unused"], "outputs": ["scores"]}, []),
    "with_default": (with_default, {}, [ROW, {**ROW, "scale": [[1.0, 2.0]]}]),
    "default_left_out": (with_default, {"inputs": ["x"]}, [ROW]),
    "with_long_default": (with_long_default, {}, [{"x": [1.0]}]),
    "default_declared": (with_default, {"inputs": ["x", "scale"]}, [{**ROW, "scale": [[1.0, 2.0]]}]),
    "with_defaults_only": (with_defaults_only, {}, [ROW]),
    "with_loss": (with_loss, {}, [ROW, {**ROW, "labels": [[5.0]]}, {"labels": [[5.0]]}]),
    "with_table": (with_table, {}, [{"words": ["b", "c"]}]),
    "with_empty_table": (with_empty_table, {}, []),
    "with_loop": (with_loop, {}, [{"x": [1.0], "flag": True}, {"x": [1.0], "flag": False}]),
    "with_variable": (with_variable, {}, []),
    "with_queue": (with_queue, {}, []),
    "instead_of_a_queue": (with_queue, {"inputs": ["batch"]}, [{"batch": [[1.0, 2.0], [0.0, 0.0]]}]),
    "on_a_cluster": (on_a_cluster, {}, [{"x": [1.0]}]),
    "with_python": (with_python, {}, []),
    "foreign": (foreign, {}, []),
    "unknown_rank": (unknown_rank, {}, [{"x": [[1.0]]}, {"x": 1.0}]),
    "without_inputs": (without_inputs, {}, [{}]),
}


def definition_of(make):
    graph = tf.Graph()
    with graph.as_default():
        make()
    definition = graph.as_graph_def()
    if make is foreign:
        definition.node[-1].op = "BeamSearchOfAnother"
    return definition


def arrays(values):
    def array(value):
        found = np.array(value)
        if found.dtype.kind == "U":
            return np.array([each.encode() for each in found.ravel()], dtype=object).reshape(found.shape)
        return found.astype(np.float32) if found.dtype.kind == "f" else found

    return {key: array(value) for key, value in values.items()}


def run(path, declared, requests):
    specs = {kind: tuple(TensorSpec(name) for name in names) for kind, names in declared.items()}
    try:
        model = runtime.load(LoadOptions(path, **specs))
    except LoadError as error:
        return {"error": str(error)}
    ((name, signature),) = model.signatures.items()
    answers = []
    for request in requests:
        try:
            answers.append({key: value.tolist() for key, value in model.infer(arrays(request), (), name).items()})
        except InvalidInput as error:
            answers.append({"invalid": str(error)})
    analysis = model.analyze_batch(name)
    return {
        "inputs": [list(spec) for spec in signature.inputs],
        "outputs": [list(spec) for spec in signature.outputs],
        "refused": signature.refused,
        "optional": signature.optional,
        "unbatched": [list(spec) for spec in signature.unbatched],
        "answers": answers,
        "analysis": {**analysis._asdict(), "independent": analysis.independent},
    }


FLOAT = {"T": {"type": "DT_FLOAT"}, "dtype": {"type": "DT_FLOAT"}}
TFJS = {
    "prelu": [
        {"name": "x", "op": "Placeholder"},
        {"name": "w", "op": "Const"},
        {"name": "y", "op": "Prelu", "input": ["x", "w"]},
    ],
    "debug": [{"name": "x", "op": "Placeholder"}, {"name": "y", "op": "DebugIdentityV2", "input": ["x"]}],
    "prelu_without_inputs": [{"name": "y", "op": "Prelu"}],
    "const_without_type": [{"name": "y", "op": "Const", "attr": {}}],
}


WEIGHTS = {"w": np.array([0.5], np.float32), "y": np.zeros(2, np.float32)}


def run_tfjs(nodes):
    """nodes: in model.json."""
    try:
        found = of_graph_def(graph_def({"node": [{"attr": FLOAT, **node} for node in nodes]}, WEIGHTS), 1)
    except LoadError as error:
        return str(error)
    return str(found.run({"x": np.array([2.0, -3.0, np.inf, -np.inf, 0.0], np.float32)}, ["y"])["y"].tolist())


def main():
    runtime._configure = lambda options: None  # a process can set its threads only once
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.graphdef")
        for name, (make, declared, requests) in CASES.items():
            Path(path).write_bytes(definition_of(make).SerializeToString())
            found[name] = run(path, declared, requests)
        Path(path).write_bytes(definition_of(two_ends).SerializeToString()[:-3])
        found["truncated"] = run(path, {}, [])
    found["tfjs"] = {name: run_tfjs(nodes) for name, nodes in TFJS.items()}
    print(json.dumps(found))


main()
