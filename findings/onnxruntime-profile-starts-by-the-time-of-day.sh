#!/usr/bin/env bash
# ONNX Runtime 1.31.1 on Linux: InferenceSession.get_profiling_start_time_ns() is said to be comparable to
# time.monotonic_ns(), but is the time of day, as time.time_ns(). Events of a profile that are placed among others by the
# documented clock are decades away. On other systems, the C++ clock behind it is a steady one.
#
# Seen: the start of a profile is less than a minute from time.time_ns(), and years from time.monotonic_ns().
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import time

import onnxruntime as ort
from onnx import TensorProto, helper

infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", infos[:1], infos[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
settings = ort.SessionOptions()
settings.enable_profiling = True
session = ort.InferenceSession(model.SerializeToString(), settings)
started = session.get_profiling_start_time_ns()
session.end_profiling()
day, monotonic = abs(time.time_ns() - started) / 1e9, abs(time.monotonic_ns() - started) / 1e9
print("ONNX Runtime", ort.__version__, "seconds from the time of day:", day, "from the monotonic clock:", monotonic)
assert "monotonic_ns" in ort.InferenceSession.get_profiling_start_time_ns.__doc__, "the documentation has changed"
assert day < 60 and monotonic > 365 * 24 * 3600, "the clock has changed"
PYTHON
