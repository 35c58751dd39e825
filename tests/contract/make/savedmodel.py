"""Make small SavedModels, each with a case: `PYTHON savedmodel.py FOLDER`, in the runtime's environment."""

import json
import sys
import tempfile
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2


class Half(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float16, "x")])
    def __call__(self, x):
        return {"y": x + x}


class Strings(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def __call__(self, text):
        return {"upper": tf.strings.upper(text), "long": tf.strings.length(text) > 3}


class Echo(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([], tf.string, "one"), tf.TensorSpec([None], tf.string, "row")])
    def __call__(self, one, row):
        return {"one": tf.identity(one), "row": tf.identity(row)}


class Scalar(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "x"), tf.TensorSpec([], tf.int64, "step")])
    def __call__(self, x, step):
        return {"y": x + step}


class UnknownRank(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x")])
    def __call__(self, x):
        return {"y": x * 2.0, "small": tf.cast(x, tf.bfloat16), "complex": tf.complex(x, x)}


class SmallTypes(tf.Module):
    """TensorFlow computes with BF16, and converts the others to wider types."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 3], dtype, name)
            for name, dtype in (
                ("b", tf.bfloat16),
                ("e", tf.dtypes.experimental.float8_e4m3fn),
                ("f", tf.dtypes.experimental.float8_e5m2),
                ("i", tf.dtypes.experimental.int4),
                ("u", tf.dtypes.experimental.uint4),
            )
        ]
    )
    def __call__(self, b, e, f, i, u):
        wide = {"e2": tf.cast(e, tf.float32), "f2": tf.cast(f, tf.float32), "i2": tf.cast(i, tf.int8)}
        wide["u2"] = tf.cast(u, tf.uint8)
        own = {"e2": e.dtype, "f2": f.dtype, "i2": i.dtype, "u2": u.dtype}
        return {"b2": b + b, **{name: tf.cast(each + each, own[name]) for name, each in wide.items()}}


class Tables(tf.Module):
    """Look ids up in a variable within a called function, and clip a sum."""

    def __init__(self):
        super().__init__()
        self.table = tf.Variable(tf.range(40000, dtype=tf.float32)[:, None])

    @tf.function
    def look_up(self, ids):
        return tf.gather(self.table, tf.cast(ids, tf.int32))[:, 0]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "ids"), tf.TensorSpec([None], tf.float32, "a")])
    def __call__(self, ids, a):
        return {"y": self.look_up(ids) + tf.minimum(tf.maximum(a / 2.0 - 1.0, 0.0), 6.0)}


class Signatures(tf.Module):
    def __init__(self):
        super().__init__()
        self.weight = tf.Variable([[1.0], [2.0]])

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def first(self, x):
        return {"y": x @ self.weight}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def second(self, x):
        return {"z": 10.0 * (x @ self.weight)}


class Lookup(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "i")])
    def __call__(self, i):
        tf.debugging.assert_less(i, 3, message="i must be below 3")
        return {"y": tf.gather([1.0, 2.0, 3.0], i)}


class Ragged(tf.Module):
    """One output of two has rows of different lengths."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def __call__(self, x):
        return {"rows": tf.RaggedTensor.from_tensor(x, padding=0.0), "y": x * 2.0}


X_AND_SCALE = [tf.TensorSpec([None, 2], tf.float32, "x"), tf.TensorSpec([], tf.float32, "scale")]
THREE = tf.constant(3.0)


class Composed(tf.Module):
    """Outputs of several tensors, outputs that the protocol lacks, and a default value, which TensorFlow 2 saves."""

    @tf.function(input_signature=X_AND_SCALE)
    def __call__(self, x, scale=THREE):
        rows = tf.RaggedTensor.from_tensor(x, padding=0.0)
        return {
            "y": x * scale,
            "deep": tf.stack([rows, rows + 1.0]),
            "sparse": tf.sparse.from_dense(x),
            "sparse_complex": tf.sparse.from_dense(tf.complex(x, x)),
            "complex": tf.complex(x, x),
            "quantized": tf.quantization.quantize(x, 0.0, 1.0, tf.qint8)[0],
            "list": tf.raw_ops.TensorListFromTensor(tensor=x, element_shape=[2]),
        }


class Default(tf.Module):
    @tf.function(input_signature=X_AND_SCALE)
    def __call__(self, x, scale=THREE):
        return {"y": x * scale}


class CallsPython(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def __call__(self, x):
        return {"y": tf.ensure_shape(tf.numpy_function(lambda array: array + 1, [x], tf.float32), [None])}


class Online(tf.Module):
    """Some signatures do not change any state; others change state that the next run reads."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(tf.ones([2, 1]))
        self.generator = tf.random.Generator.from_seed(1)
        self.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, 0.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def predict(self, x):
        return {"y": x @ self.weights}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def train(self, x):
        per_row = tf.square(x @ self.weights)
        for _ in tf.range(1):  # inside a loop's body, which is a separate function
            self.weights.assign_sub(0.1 * tf.transpose(tf.reduce_mean(x, 0, keepdims=True)))
        return {"loss": per_row}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "keys"), tf.TensorSpec([None], tf.float32, "values")])
    def remember(self, keys, values):
        self.table.insert(keys, values)
        return {"known": self.table.lookup(keys)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def generate(self, x):
        return {"y": x + self.generator.normal(tf.shape(x))}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def noisy(self, x):
        return {"y": x + tf.random.normal(tf.shape(x))}


class Plain(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def __call__(self, x):
        return {"z": x * 3.0}


class Failing(tf.Module):
    def __init__(self, compute, datatype=tf.float32):
        super().__init__()
        spec = tf.TensorSpec([None], datatype, "x")
        self.call = tf.function(lambda x: {"y": compute(x)}, input_signature=[spec])

    @property
    def __call__(self):
        return self.call


class ReadsAssets(tf.Module):
    """A vocabulary file that becomes a table, and a file that is read for each request."""

    def __init__(self, folder):
        super().__init__()
        words, note = Path(folder, "words.txt"), Path(folder, "note.txt")
        words.write_text("a\nb\n")
        note.write_text("seven__")
        self.assets = [tf.saved_model.Asset(str(path)) for path in (words, note)]
        index = tf.lookup.TextFileIndex
        rows = tf.lookup.TextFileInitializer(self.assets[0], tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER)
        self.table = tf.lookup.StaticHashTable(rows, -1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "x")])
    def __call__(self, x):
        length = tf.strings.length(tf.io.read_file(self.assets[1].asset_path))
        return {"y": self.table.lookup(x), "length": tf.zeros_like(x, tf.int32) + length}


def elsewhere(x):
    with tf.device("/job:worker/task:3"):
        return x + 1.0


def save_graphs(folder, *tag_sets):
    """Save one graph per set of tags; the graphs add 1, 2, 3, …"""
    builder = tf.compat.v1.saved_model.Builder(str(folder))
    for number, tags in enumerate(tag_sets):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, [None], "x")
            tf.compat.v1.get_variable("unused", [])
            session.run(tf.compat.v1.global_variables_initializer())
            definition = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": x + float(number + 1)})
            signatures = {"serving_default": definition}
            if number:
                builder.add_meta_graph(list(tags), signatures)
            else:
                builder.add_meta_graph_and_variables(session, list(tags), signatures)
    builder.save()
    # The builder requires at least one tag; TF Hub's older modules have none.
    path = folder / "saved_model.pb"
    written = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in written.meta_graphs:
        if list(graph.meta_info_def.tags) == ["none"]:
            del graph.meta_info_def.tags[:]
    path.write_bytes(written.SerializeToString())


def save_counter(folder):
    """Save a TensorFlow 1 graph with two signatures, one of which counts its calls."""
    compat = tf.compat.v1
    builder = compat.saved_model.Builder(str(folder))
    with tf.Graph().as_default(), compat.Session() as session:
        x = compat.placeholder(tf.float32, [None], "x")
        count = compat.Variable(0.0, use_resource=False, name="count")
        with tf.control_dependencies([compat.assign_add(count, 1.0)]):
            counted = x + 0.0
        session.run(compat.global_variables_initializer())
        outputs = {"serving_default": x + count, "counting": counted}
        signatures = {name: compat.saved_model.predict_signature_def({"x": x}, {"y": y}) for name, y in outputs.items()}
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
    builder.save()


def save_for_session(folder):
    """Save a TensorFlow 1 model with an optimizer's slots, on which `tf.saved_model.load` fails."""
    compat = tf.compat.v1
    compat.disable_control_flow_v2()
    builder = compat.saved_model.Builder(str(folder))
    with tf.Graph().as_default(), compat.Session() as session:
        x = compat.placeholder(tf.float32, [None, 2], "x")
        weights = compat.get_variable("weights", initializer=[[1.0], [2.0]], use_resource=False)
        table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([0, 1], [2.0, 3.0], tf.int64), 0.0)
        noise = x + tf.random.normal(tf.shape(x))
        training = compat.placeholder_with_default(False, [], "training")
        kept = compat.cond(training, lambda: tf.nn.dropout(x, rate=0.5), lambda: tf.identity(x))
        product = tf.matmul(kept, weights)
        label = table.lookup(tf.cast(product[:, 0] > 0, tf.int64))
        session.run([compat.global_variables_initializer(), compat.tables_initializer()])
        ends = {
            "serving_default": ({"x": x}, {"y": product, "label": label}),
            "between": ({"noise": noise}, {"y": noise * 2.0}),
            "noisy": ({"x": x}, {"y": noise * 2.0}),
            "meets": ({"x": x}, {"y": x - tf.reduce_mean(x, 0, keepdims=True)}),
            "loop": ({"x": x}, {"y": compat.while_loop(lambda v: tf.reduce_sum(v) < 9.0, lambda v: v + 1.0, [x])}),
        }
        signatures = {name: compat.saved_model.predict_signature_def(*each) for name, each in ends.items()}
        builder.add_meta_graph_and_variables(
            session, ["serve"], signatures, main_op=compat.tables_initializer(), strip_default_attrs=True
        )
    builder.save()
    compat.enable_control_flow_v2()
    path = folder / "saved_model.pb"
    written = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    objects = written.meta_graphs[0].object_graph_def
    for name in ("", "variable", "slot"):
        made = objects.nodes.add()
        made.user_object.identifier = "_generic_user_object"
        made.user_object.version.producer = made.user_object.version.min_consumer = 1
        if name:
            objects.nodes[0].children.add(node_id=len(objects.nodes) - 1, local_name=name)
    objects.nodes[0].slot_variables.add(original_variable_node_id=1, slot_name="m", slot_variable_node_id=2)
    path.write_bytes(written.SerializeToString())
    try:
        tf.saved_model.load(str(folder))
    except AttributeError:
        return
    raise AssertionError("tf.saved_model.load takes what only a session should serve")


def main(root):
    def write_graphs(name, case, *tag_sets):
        folder = Path(root, name)
        folder.mkdir(parents=True)
        save_graphs(folder / "model", *tag_sets)
        (folder / "case.json").write_text(json.dumps({"artifact": "model", **case}))

    def write(name, module, case, signatures=None):
        folder = Path(root, name)
        signatures = module.__call__ if signatures is None else signatures
        tf.saved_model.save(module, str(folder / "model"), signatures=signatures)
        (folder / "case.json").write_text(json.dumps({"artifact": "model", **case}))
        return folder

    write(
        "half",
        Half(),
        {"expected_signature": {"inputs": [["x", "FP16", [-1, 2]]], "outputs": [["y", "FP16", [-1, 2]]]}},
    )
    write("parameter_unknown", Half(), {"options": {"parameters": {"fast": True}}, "load_error": True})
    strings = {"inputs": [["text", "BYTES", [-1]]], "outputs": [["long", "BOOL", [-1]], ["upper", "BYTES", [-1]]]}
    write("strings", Strings(), {"values": {"text": ["a", "", "four"]}, "expected_signature": strings})
    # Trailing zeros, which numpy's strings drop, and empty strings.
    for name, one in {"string_scalar": "end\0", "string_scalar_empty": ""}.items():
        texts = {"one": one, "row": ["", "a\0", "\0"]}
        write(name, Echo(), {"values": texts, "expected_values": texts, "strings": True})
    write("int64_scalar", Scalar(), {"expected_signature": {"inputs": [["step", "INT64", []], ["x", "INT64", [-1]]]}})
    write(
        "unknown_rank", UnknownRank(), {"expected_signature": {"inputs": [["x", "FP32", None]]}, "refused": ["complex"]}
    )
    values: dict[str, list[list[float]]] = {
        "b": [[1.0, -0.5, 2.0**126], [0.0, 2.0**-126, 255.0]],  # TensorFlow replaces smaller ones by zero
        "e": [[1.0, -0.5, 224.0], [0.0, 2.0**-9, 15.0]],
        "f": [[1.0, -0.5, 28672.0], [0.0, 2.0**-16, 14.0]],
        "i": [[1, -4, 3], [0, -1, 2]],
        "u": [[1, 7, 3], [0, 4, 2]],
    }
    small = {
        "values": values,
        "expected_values": {
            name + "2": [[2 * value for value in row] for row in rows] for name, rows in values.items()
        },
        "expected_signature": {
            kind: [
                [name + suffix, datatype, [-1, 3]]
                for name, datatype in zip(values, ("BF16", "FP8_E4M3FN", "FP8_E5M2", "INT4", "UINT4"), strict=True)
            ]
            for kind, suffix in (("inputs", ""), ("outputs", "2"))
        },
    }
    write("small_types", SmallTypes(), small)
    ends = {"values": {"ids": [39999, 0], "a": [4.0, 99.0]}, "expected_values": {"y": [40000.0, 6.0]}}
    write("tables", Tables(), dict(ends, ranges={"ids": [0, 39999, True], "a": [2, 14, False]}))
    module = Signatures()
    both = {"serving_default": module.second, "another": module.first}
    write("default_signature", module, {"expected_signature": {"outputs": [["z", "FP32", [-1, 1]]]}}, both)
    write(
        "other_signature",
        module,
        {"signature": "another", "expected_signature": {"outputs": [["y", "FP32", [-1, 1]]]}},
        both,
    )
    unnamed = {"b": module.second, "a": module.first}
    write("no_default_signature", module, {"expected_signature": {"outputs": [["y", "FP32", [-1, 1]]]}}, unnamed)
    write("no_signature", module, {"load_error": True}, {})
    write("assertion", Lookup(), {"values": {"i": [0, 2]}, "bad": [{"i": [1, 5]}]})
    ragged = {
        "values": {"x": [[1.0, 0.0]]},
        "not_batchable": True,
        "expected_signature": {
            "outputs": [["rows.row_splits", "INT64", [-1]], ["rows.values", "FP32", [-1]], ["y", "FP32", [-1, 2]]]
        },
        "expected_values": {"y": [[2.0, 0.0]], "rows.values": [1.0]},
    }
    write("ragged_beside", Ragged(), ragged)
    composed = {
        "values": {"x": [[1.0, 0.0], [2.0, 3.0]]},
        "not_batchable": True,
        "refused": ["sparse_complex", "complex", "quantized", "list"],
        "expected_signature": {
            "inputs": [["x", "FP32", [-1, 2]]],
            "outputs": [
                ["deep.flat_values", "FP32", [-1]],
                ["deep.nested_row_splits_0", "INT64", [3]],
                ["deep.nested_row_splits_1", "INT64", [-1]],
                ["sparse.dense_shape", "INT64", [2]],
                ["sparse.indices", "INT64", [-1, 2]],
                ["sparse.values", "FP32", [-1]],
                ["y", "FP32", [-1, 2]],
            ],
        },
        "expected_values": {
            "y": [[3.0, 0.0], [6.0, 9.0]],
            "deep.flat_values": [1.0, 2.0, 3.0, 2.0, 3.0, 4.0],
            "sparse.values": [1.0, 2.0, 3.0],
        },
    }
    write("composed", Composed(), composed)
    # A default value may be left out, or the input declared to be one like any other.
    given = {"values": {"x": [[1.0, 2.0]], "scale": 5.0}, "expected_values": {"y": [[5.0, 10.0]]}}
    write("default", Default(), {"analysis": "independent", "expected_values": {"y": [[3.0, 3.0], [3.0, 3.0]]}})
    both = {"inputs": [["x", "FP32", [-1, 2]], ["scale", "FP32", []]]}
    write("default_declared", Default(), {**given, "options": both, "analysis": {"unknown": "is a scalar"}})
    write("calls_python", CallsPython(), {"load_error": "calls a Python function"})
    both = CallsPython()
    both.plain = Plain()
    signatures = {"serving_default": both.__call__, "plain": both.plain.__call__}
    write("calls_python_beside", both, {"expected_signature": {"outputs": [["z", "FP32", [-1]]]}}, signatures)

    def adds(number):
        return {"values": {"x": [1.0]}, "expected_values": {"y": [1.0 + number]}}

    write_graphs("tags_train_first", adds(2), ["train"], ["none"])
    write_graphs("tags_none_first", adds(1), ["none"], ["train"])
    write_graphs("tags_tpu_first", dict(adds(2), operators={"add": "AddV2"}), ["serve", "tpu"], ["serve"])
    write_graphs("tags_for_training_only", {"load_error": "{train}, {serve, tpu}"}, ["train"], ["tpu", "serve"])
    online = Online()
    names = ["predict", "train", "remember", "generate", "noisy"]
    signatures = {"serving_default": online.predict, **{name: getattr(online, name) for name in names[1:]}}
    writing = {"train": "AssignSubVariableOp", "remember": "LookupTableInsert", "generate": "RngReadAndSkip"}
    first = {"values": {"x": [[1.0, 2.0]]}, "expected_values": {"y": [[3.0]]}}
    write("changes_no_state", online, {**first, "analysis": "independent", "writing": [*writing]}, signatures)
    for name, operator in writing.items():
        case = {"signature": name, "stateful": True, "analysis": {"writes": operator}}
        write("state_" + name, online, case, signatures)
    noisy = {"signature": "noisy", "stateful": True, "analysis": {"mixes": "RandomStandardNormal"}}
    write("state_noisy", online, noisy, signatures)
    for name, analysis in {"serving_default": "independent", "counting": {"writes": "Assign"}}.items():
        folder = Path(root, "v1_" + name)
        folder.mkdir(parents=True)
        save_counter(folder / "model")
        state = {"writing": ["counting"]} if name == "serving_default" else {"stateful": True}
        (folder / "case.json").write_text(
            json.dumps({"artifact": "model", "signature": name, "analysis": analysis, **adds(0), **state})
        )
    of_session = {
        "artifact": "model",
        "values": {"x": [[1.0, 2.0]]},
        "expected_values": {"y": [[5.0]], "label": [3.0]},
        "analysis": "independent",
        "analyses": {
            "between": "independent",
            "noisy": {"mixes": "is random"},
            "meets": {"mixes": "reduces over the rows"},
            "loop": {"unknown": "Enter"},
        },
    }
    Path(root, "session").mkdir()
    save_for_session(Path(root, "session", "model"))
    Path(root, "session", "case.json").write_text(json.dumps(of_session))
    with tempfile.TemporaryDirectory() as folder:
        case = {
            "values": {"x": ["b", "c"]},
            "expected_signature": {"outputs": [["length", "INT32", [-1]], ["y", "INT64", [-1]]]},
        }
        write("reads_assets", ReadsAssets(folder), case)
    failing = {
        "inflates": Failing(lambda text: tf.io.decode_compressed(text, "ZLIB"), tf.string),
        "parses": Failing(lambda text: tf.io.decode_proto(text, "tensorflow.Example", [], [])[0], tf.string),
        "reads": Failing(lambda text: tf.map_fn(tf.io.read_file, text), tf.string),
        "reads_another": Failing(lambda text: tf.map_fn(lambda _: tf.io.read_file("/there/is/none"), text), tf.string),
        "gathers": Failing(lambda i: tf.gather([1.0, 2.0], i), tf.int64),
        "lacks_kernel": Failing(lambda x: tf.nn.depth_to_space(tf.reshape(x, [1, 4, 1, 1]), 2, "NCHW")),
        "elsewhere": Failing(elsewhere),
    }
    for name, module in failing.items():
        write("faults/" + name, module, {})
    four = {"x": [1.0, 2.0, 3.0, 4.0]}
    case = [
        ["inflates/model", {"x": ["no zlib"]}, "client", "incorrect header check"],
        ["parses/model", {"x": ["{"]}, "client", "Failed"],
        ["reads/model", {"x": ["/there/is/none"]}, "client", "none; No such file"],
        ["reads_another/model", {"x": ["another"]}, "model", "none; No such file"],
        ["gathers/model", {"x": [9]}, "client", "indices[0] = 9 is not in [0, 2)"],
        ["lacks_kernel/model", four, "model", "No OpKernel was registered"],
        ["elsewhere/model", four, "model", "Cannot assign a device"],
    ]
    Path(root, "faults", "case.json").write_text(json.dumps({"artifact": "inflates/model", "faults": case}))
    broken = write("corrupt", Half(), {"load_error": True})
    (broken / "model" / "saved_model.pb").write_bytes(b"hello")


if __name__ == "__main__":
    main(sys.argv[1])
