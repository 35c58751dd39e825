"""Generates random TensorFlow Lite graphs whose rows are independent, or mixed, by construction.

`PYTHON tflite_graphs.py FOLDER COUNT [FIRST]`, in an environment with TensorFlow, writes COUNT files from the
seed FIRST on. For each file, graphs.json contains the step that mixes rows, or "" if there is none.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tflite_mixing import ENDINGS, STEPS
from tflite_pictures import PICTURE, global_pool
from tflite_steps import ANY, Builder, flattened, wide


def chain(b, x, count):
    for _ in range(count):
        step = b.random.choice(PICTURE if len(x.shape) == 4 and b.random.random() < 0.7 else ANY)
        if (len(x.shape) == 4 and step is wide) or int(np.prod(x.shape[1:])) > 4096:
            step = global_pool if len(x.shape) == 4 else flattened
        b.steps.append(step.__name__)
        x = step(b, x)
    return x


def built(seed):
    """Return the builder, the module, the input's shape, and a list that will hold the step that mixes rows."""
    b = Builder(seed)
    shape = b.random.choice([[None, 10], [None, 5, 8], [None, 8, 8, 3]])
    mixing = [""]

    def function(x):
        b.random, b.numpy, b.steps, b.kept = random.Random(seed + 1), np.random.default_rng(seed), [], []
        x = chain(b, x, b.random.randint(1, 3))
        if seed % 2:
            step = b.random.choice(ENDINGS if b.random.random() < 0.15 else STEPS)
            mixing[0] = step.__name__
            b.steps.append(step.__name__)
            x = step(b, x)
            if step in ENDINGS:
                return x
        return chain(b, x, b.random.randint(0, 2))

    module = tf.Module()
    module.function = tf.function(
        function, input_signature=[tf.TensorSpec(shape, tf.float32, name="x")], autograph=False
    )
    return b, module, shape, mixing


def converted(seed):
    b, module, shape, mixing = built(seed)
    concrete = module.function.get_concrete_function()
    module.kept = b.kept
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    kind = b.random.choice(["float", "float", "dynamic", "dynamic", "half", "whole"])
    if kind != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "half":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "whole":
        samples = [b.numpy.normal(size=[1, *shape[1:]]).astype(np.float32) for _ in range(4)]
        converter.representative_dataset = lambda: ([sample] for sample in samples)
    return converter.convert(), mixing[0], [kind, *b.steps]


def main():
    folder, count, first = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0
    found = {}
    seed = first
    while len(found) < count:
        name = f"graph{seed}"
        try:
            content, mixing, steps = converted(seed)
            (folder / f"{name}.tflite").write_bytes(content)
            found[name] = {"artifact": f"{name}.tflite", "mixing": mixing, "steps": steps}
        except Exception as error:
            print(name, type(error).__name__, str(error)[:200], file=sys.stderr)
        seed += 1
    (folder / "graphs.json").write_text(json.dumps(found))


main()
