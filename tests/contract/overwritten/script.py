"""Check a model whose files are overwritten while it serves: `PYTHON script.py RUNTIME ARTIFACT CASE_JSON`.

A loaded model must not read its files again or map them. A failed check raises.
"""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from suite.suite import Suite


def files(folder):
    return [os.path.join(each, name) for each, _, names in os.walk(folder) for name in names]


def same(suite, inputs, expected):
    for name, array in suite.infer(inputs).items():
        suite.same(name, array, expected[name])


def main(runtime, artifact, case):
    suite = Suite(runtime, artifact, case)
    suite.load()
    folder = artifact if os.path.isdir(artifact) else os.path.dirname(artifact)
    with open("/proc/self/maps") as maps:
        assert os.path.realpath(folder) not in maps.read(), "a file of the model is mapped"
    few, many = suite.inputs, {name: np.concatenate([array] * 3) for name, array in suite.inputs.items()}
    expected = suite.infer(few)
    same(suite, few, expected)
    for path in files(folder):
        with open(path, "r+b") as file:
            file.write(b"\x77" * os.path.getsize(path))
    same(suite, few, expected)
    for path in files(folder):
        os.truncate(path, 0)
    # Another number of rows as well, because some state is set up per shape.
    same(suite, many, {name: np.concatenate([array] * 3) for name, array in expected.items()})
    same(suite, few, expected)
    suite.model.close()


main(*sys.argv[1:])
