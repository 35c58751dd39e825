#!/usr/bin/env bash
# OpenVINO 2026.4.1 on a CPU: a model whose input and output are i64 computes in 32 bits without saying so. Its ports
# still report i64. 70000 squared is 605032704, and 2^40 is lost even by a Concat, which computes nothing. A model that
# returns its input unchanged returns 2^40.
#
# Seen: 2^40 passed on: 1099511627776; concatenated: 0; 70000 * 70000: 605032704; datatypes of ports: int64_t.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 numpy==2.4.6 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cat >"$folder/integers.py" <<'PYTHON'
import numpy as np
import openvino as ov
from openvino import opset13 as ops

core = ov.Core()


def answer(build, number):
    """Return what a model of one i64 input computes from this number, as Python's integer."""
    x = ops.parameter([-1], np.int64)
    compiled = core.compile_model(ov.Model([build(x)], [x], "integers"), "CPU")
    assert str(compiled.inputs[0].element_type) == str(compiled.outputs[0].element_type) == "<Type: 'int64_t'>"
    return int(compiled([np.array([number], np.int64)])[0].flat[0])


passed = answer(lambda x: x, 2**40)
joined = answer(lambda x: ops.concat([x, x], 0), 2**40)
squared = answer(lambda x: ops.multiply(x, x), 70000)
print("OpenVINO", ov.__version__, "passed on:", passed, "concatenated:", joined, "squared:", squared)
assert passed == 2**40, "an unchanged input has changed"
assert joined != 2**40, "Concat keeps 64 bits"
assert squared == 605032704, "products have another width"
PYTHON
"$folder/venv/bin/python" "$folder/integers.py"
