"""Makes small SavedModels, each with a case: `PYTHON savedmodel.py FOLDER`, in the runtime's own environment."""

import json
import sys
from pathlib import Path

import tensorflow as tf


class Half(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float16, "x")])
    def __call__(self, x):
        return {"y": x + x}


class Strings(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def __call__(self, text):
        return {"upper": tf.strings.upper(text), "long": tf.strings.length(text) > 3}


class Scalar(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "x"), tf.TensorSpec([], tf.int64, "step")])
    def __call__(self, x, step):
        return {"y": x + step}


class UnknownRank(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "x")])
    def __call__(self, x):
        return {"y": x * 2.0, "small": tf.cast(x, tf.bfloat16)}


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


def main(root):
    def write(name, module, case, signatures=None):
        folder = Path(root, name)
        signatures = module.__call__ if signatures is None else signatures
        tf.saved_model.save(module, str(folder / "model"), signatures=signatures)
        (folder / "case.json").write_text(json.dumps({"artifact": "model", **case}))
        return folder

    write("half", Half(), {"told": {"inputs": [["x", "FP16", [-1, 2]]], "outputs": [["y", "FP16", [-1, 2]]]}})
    write("parameter_unknown", Half(), {"options": {"parameters": {"fast": True}}, "load_error": True})
    strings = {"inputs": [["text", "BYTES", [-1]]], "outputs": [["long", "BOOL", [-1]], ["upper", "BYTES", [-1]]]}
    write("strings", Strings(), {"values": {"text": ["a", "", "four"]}, "told": strings})
    write("int64_scalar", Scalar(), {"told": {"inputs": [["step", "INT64", []], ["x", "INT64", [-1]]]}})
    write("unknown_rank", UnknownRank(), {"told": {"inputs": [["x", "FP32", None]]}, "refused": ["small"]})
    module = Signatures()
    both = {"serving_default": module.second, "another": module.first}
    write("default_signature", module, {"told": {"outputs": [["z", "FP32", [-1, 1]]]}}, both)
    write("other_signature", module, {"signature": "another", "told": {"outputs": [["y", "FP32", [-1, 1]]]}}, both)
    unnamed = {"b": module.second, "a": module.first}
    write("no_default_signature", module, {"told": {"outputs": [["y", "FP32", [-1, 1]]]}}, unnamed)
    write("no_signature", module, {"load_error": True}, {})
    write("assertion", Lookup(), {"values": {"i": [0, 2]}, "bad": [{"i": [1, 5]}]})
    broken = write("corrupt", Half(), {"load_error": True})
    (broken / "model" / "saved_model.pb").write_bytes(b"hello")


if __name__ == "__main__":
    main(sys.argv[1])
