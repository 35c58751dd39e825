#!/usr/bin/env bash
# ONNX Runtime 1.31.1: an output of FLOAT8E4M3FN is returned by run() as an array of uint8 that holds the bits of each
# element, without an error or a warning: 2.0 is 64. Outputs of FLOAT8E5M2 and BFLOAT16 raise an error instead, which
# says that numpy has no such type.
#
# Seen: [1.0, 2.0, -0.5] cast to FLOAT8E4M3FN comes back as uint8 [56, 64, 176]; RuntimeError for the other two.
# Fails if the values are not their bits, or if there is an error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper


def cast_to(kind):
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=kind)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", kind, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.array([1.0, 2.0, -0.5], np.float32)})[0]


found = cast_to(TensorProto.FLOAT8E4M3FN)
print("FLOAT8E4M3FN:", found.dtype, found.tolist())
for name in ("FLOAT8E5M2", "BFLOAT16"):
    try:
        print(name + ":", cast_to(getattr(TensorProto, name)))
    except RuntimeError as error:
        print(name + ":", type(error).__name__, str(error).splitlines()[0])
assert (found.dtype, found.tolist()) == (np.uint8, [56, 64, 176]), "it is not the bits"
PYTHON
