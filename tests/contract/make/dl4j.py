"""Make small DL4J models, each with a case: `PYTHON dl4j.py FOLDER`, in the runtime's environment.

The zips are those of tests/unit/runtimes/dl4j, which writes them as DL4J's ModelSerializer does.
"""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np

# This file must not be imported as `dl4j`, and the tests are packages of the project.
sys.path[0] = str(Path(__file__).resolve().parents[3])

from tests.unit.runtimes.dl4j import normalizers, zips  # noqa: E402
from tests.unit.runtimes.dl4j.configurations import dense, graph, multi_layer, plain, pooling, vertex  # noqa: E402
from tests.unit.runtimes.dl4j.network import single as single_input  # noqa: E402
from tests.unit.runtimes.dl4j.networks import NETWORKS  # noqa: E402


def main(root):
    def folder(name, case):
        made = Path(root, name)
        made.mkdir(parents=True)
        (made / "case.json").write_text(json.dumps({"artifact": "model.zip", **case}))
        return made / "model.zip"

    def expects(inputs, outputs):
        return {"expected_signature": {"inputs": inputs, "outputs": outputs}}

    # The identity, and twice: W by columns, then b.
    identity, twice = (
        np.concatenate([np.eye(2).ravel(), np.zeros(2)]),
        np.concatenate([2 * np.eye(2).ravel(), np.ones(2)]),
    )
    single = multi_layer(dense(2, 2, "Identity"))
    case = expects([["in", "FP32", [-1, 2]]], [["out", "FP32", [-1, 2]]])
    values = {"values": {"in": [[1.0, 2.0], [3.0, 4.0]]}, "expected_values": {"out": [[3.0, 5.0], [7.0, 9.0]]}}
    zips.write(folder("dense", {**case, **values, "operators": {}, "bad": [{"in": [[1.0] * 3]}]}), single, twice)
    zips.write(
        folder("parameter_unknown", {"options": {"parameters": {"fast": True}}, "load_error": "'normalizer'"}),
        single,
        twice,
    )
    zips.write(
        folder("double", expects([["in", "FP64", [-1, 2]]], [["out", "FP64", [-1, 2]]])), single, twice, dtype="DOUBLE"
    )
    zips.write(
        folder("half", expects([["in", "FP16", [-1, 2]]], [["out", "FP16", [-1, 2]]])), single, twice, dtype="HALF"
    )

    several = graph(["x"], {"p": (dense(2, 2, "Identity"), ["x"]), "q": (dense(2, 2, "Identity"), ["p"])}, ["q", "p"])
    values = {"values": {"x": [[1.0, 2.0]]}, "expected_values": {"p": [[1.0, 2.0]], "q": [[3.0, 5.0]]}}
    zips.write(folder("several", values), several, np.concatenate([identity, twice]))
    open_steps = {
        "expected_signature": {"inputs": [["in", "FP32", [-1, 3, -1]]]},
        "values": {"in": np.ones((2, 3, 5)).tolist()},
    }
    zips.write(folder("sequence", open_steps), *both(NETWORKS["lstm"]))

    # No layer determines the shape of its input.
    sums = graph(["x"], {"y": (vertex("Scale", scaleFactor=2.0), ["x"])}, ["y"])
    declared = {"inputs": [["x", "FP32", [-1, 3]]], "outputs": [["y", "FP32", [-1, 3]]]}
    zips.write(folder("declared", {"options": declared, "expected_signature": declared}), sums, np.zeros(0))
    zips.write(folder("undeclared", {"load_error": True}), sums, np.zeros(0))

    # The normalizer maps 0 to 4 onto 0 to 1 before the network, and does nothing after it.
    ranged = normalizers.min_max((np.zeros(2), np.full(2, 4.0)))
    values = {"values": {"in": [[4.0, 2.0]]}, "expected_values": {"out": [[1.0, 0.5]]}}
    zips.write(folder("normalized", values), single, identity, normalizer=ranged)
    left = {**values, "options": {"parameters": {"normalizer": False}}, "expected_values": {"out": [[4.0, 2.0]]}}
    zips.write(folder("normalizer_left", left), single, identity, normalizer=ranged)

    # The padded zeros are larger than the negative numbers in the pooling that follows.
    padding = plain("ZeroPaddingLayer", dataFormat="NCHW", padding=[1, 1, 1, 1])
    padded = single_input(multi_layer(padding, pooling("MAX", [2, 2], [1, 1])), 1, 1, 2, 2)
    minus = {"in": [[[[-5.0, -5.0], [-5.0, -5.0]]]]}
    zeros = {"out": [[[[0, 0, 0], [0, -5, 0], [0, 0, 0]]]]}
    case = {"values": minus, "expected_values": zeros, "options": {"inputs": [["in", "FP32", [-1, 1, 2, 2]]]}}
    zips.write(folder("pad_then_pool", case), padded.configuration, np.zeros(0))

    refused = {"load_error": True}
    zips.write(folder("not_covered", refused), *both(NETWORKS["yolo2"]))
    zips.write(folder("too_few", refused), single, twice[:-1])
    whole = folder("truncated", refused)
    zips.write(whole, single, twice)
    whole.write_bytes(whole.read_bytes()[:-40])
    folder("garbage", refused).write_bytes(b"PK\x03\x04 and nothing that follows")
    with zipfile.ZipFile(folder("no_coefficients", refused), "w") as file:
        file.writestr("configuration.json", json.dumps(single))


def both(network):
    return network.configuration, network.coefficients()


if __name__ == "__main__":
    main(sys.argv[1])
