"""Make small CNTK models, each with a case: `PYTHON cntk.py FOLDER`, in the runtime's environment.

This file must not be imported as `cntk`; run as a script, its folder comes first on sys.path, so
that folder is removed again.
"""

import json
import sys
from pathlib import Path

sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

import cntk as C  # noqa: E402
import numpy as np  # noqa: E402


def main(root):
    C.cntk_py.set_fixed_random_seed(0)

    def folder(name, case):
        made = Path(root, name)
        made.mkdir(parents=True)
        (made / "case.json").write_text(json.dumps(dict({"artifact": "model.model"}, **case)))
        return made / "model.model"

    def save(name, function, case):
        function.save(str(folder(name, case)))

    def expects(inputs, outputs):
        return {"expected_signature": {"inputs": inputs, "outputs": outputs}}

    x = C.input_variable(4, name="x")
    dense = C.alias(C.layers.Dense(3)(x), "y")
    case = expects([["x", "FP32", [-1, 4]]], [["y", "FP32", [-1, 3]]])
    save("dense", dense, dict(case, bad=[{"x": [[1.0] * 5]}]))
    save("parameter_unknown", dense, {"options": {"parameters": {"fast": True}}, "load_error": True})
    save("several", C.combine([C.alias(x * 2, "p"), C.alias(x + 1, "q")]), {
        "values": {"x": [[1.0, 2.0, 3.0, 4.0]]},
        "expected_values": {"p": [[2.0, 4.0, 6.0, 8.0]], "q": [[2.0, 3.0, 4.0, 5.0]]},
    })  # fmt: skip
    double = C.input_variable(4, dtype=np.float64, name="x")
    case = expects([["x", "FP64", [-1, 4]]], [["y", "FP64", [-1, 4]]])
    twice = C.element_times(double, 2, name="twice")
    save("double", C.alias(twice, "y"), dict(case, operators={"twice": "ElementTimes"}))
    half = C.input_variable(4, dtype=np.float16, name="x")
    save("half", C.alias(half + half, "y"), expects([["x", "FP16", [-1, 4]]], [["y", "FP16", [-1, 4]]]))

    unnamed = C.input_variable(2) * 2
    save(
        "unnamed",
        unnamed,
        expects([[unnamed.arguments[0].uid, "FP32", [-1, 2]]], [[unnamed.output.uid, "FP32", [-1, 2]]]),
    )
    twins = [C.input_variable(2, name="same") for _ in range(2)]
    inputs = [[each.uid, "FP32", [-1, 2]] for each in twins]
    save("twins", C.alias(twins[0] - twins[1], "y"), expects(inputs, [["y", "FP32", [-1, 2]]]))
    table = C.alias(C.gather(C.parameter((40, 3), init=1), x), "y")
    rows = {"values": {"x": [[0.0, 1.0, 2.0, 39.0]]}, "bad": [{"x": [[40.0] * 4]}], "ranges": {"x": [0, 39, True]}}
    save("table", table, rows)
    # Shapes, and a constant combined with the batch.
    image = C.input_variable((1, C.FreeDimension, C.FreeDimension), name="image")
    strided = C.layers.Convolution2D((3, 3), 2, pad=False, init=1)(image)
    case = expects([["image", "FP32", [-1, 1, -1, -1]]], [["y", "FP32", [-1, 2, -1, -1]]])
    save("open", C.alias(strided, "y"), dict(case, values={"image": np.ones((2, 1, 3, 4)).tolist()}))
    # The sum over a batch has no batch axis.
    whole = C.alias(C.reduce_sum(x, axis=C.Axis.all_axes()), "sum")
    save("without_batch", whole, dict(expects([["x", "FP32", [-1, 4]]], [["sum", "FP32", []]]), not_batchable=True))

    steps = C.sequence.input_variable(3, name="steps")
    recurrent = C.layers.Recurrence(C.layers.LSTM(5))(steps)
    case = expects([["steps", "FP32", [-1, -1, 3]]], [["y", "FP32", [-1, -1, 5]]])
    case.update(values={"steps": np.ones((2, 4, 3)).tolist()}, bad=[{"steps": [[[1.0] * 4]]}, {"steps": [[]]}])
    # Two in each step of an LSTM, for all rows.
    save("sequence", C.alias(recurrent, "y"), dict(case, operators={}, executions={"Tanh": 8}))
    case = expects([["steps", "FP32", [-1, -1, 3]]], [["y", "FP32", [-1, 5]]])
    save("last", C.alias(C.sequence.last(recurrent), "y"), case)

    words = C.input_variable(10, is_sparse=True, name="words")
    save(
        "sparse",
        C.alias(C.layers.Embedding(3)(words), "y"),
        expects([["words", "FP32", [-1, 10]]], [["y", "FP32", [-1, 3]]]),
    )
    pairs = C.input_variable((2, 3), is_sparse=True, name="pairs")
    save("sparse_pairs", C.reduce_sum(pairs), {"load_error": True})
    whole_file = Path(root, "dense", "model.model").read_bytes()
    for name, content in (("garbage", b"hello" * 9), ("truncated", whole_file[: len(whole_file) // 2]), ("empty", b"")):
        folder(name, {"load_error": True}).write_bytes(content)


if __name__ == "__main__":
    main(sys.argv[1])
