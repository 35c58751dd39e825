#!/usr/bin/env bash
# ONNX Runtime 1.31.1: RunOptions.only_execute_path_to_fetches, documented as "only execute the nodes needed by fetch
# list", changes nothing on the CPU. A model that was exported with its loss computes the loss for each prediction, and
# needs the labels for it.
#
# Seen: with the option and without it, a run that fetches only z also executes the node of the other output.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "labels", "z", "loss")]
nodes = [helper.make_node("Mul", ["x", "x"], ["z"], "z"), helper.make_node("Sub", ["z", "labels"], ["loss"], "loss")]
graph = helper.make_graph(nodes, "g", infos[:2], infos[2:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
given = dict.fromkeys(("x", "labels"), np.ones((2, 3), np.float32))


def executed(only_path: bool) -> list[str]:
    settings, options = ort.SessionOptions(), ort.RunOptions()
    settings.enable_profiling, options.only_execute_path_to_fetches = True, only_path
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    session.run(["z"], given, options)
    with open(session.end_profiling()) as file:
        names = [event["name"] for event in json.load(file)]
    return sorted(name for name in names if name.endswith("_kernel_time"))


found = executed(False), executed(True)
print("ONNX Runtime", ort.__version__, found)
assert found[0] == found[1] == ["loss_kernel_time", "z_kernel_time"], "only_execute_path_to_fetches has changed"
PYTHON
