#!/usr/bin/env bash
# mlflow-skinny 3.17.2: infer_signature of a numpy array is a column of type Any, without shape and datatype, unless
# scipy is installed, which neither mlflow-skinny nor numpy or pandas bring. A warning does not name scipy. The same
# array in the same process is a tensor of float32 and (-1, 3) once scipy is there.
#
# Seen: without scipy [{"type": "any", "required": true}]; with scipy
# [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mlflow-skinny==3.17.2 numpy==2.4.6 pandas==2.3.3
cat >"$folder/infer.py" <<'PYTHON'
import json
import logging
import sys

import numpy as np
from mlflow.models import infer_signature

logging.disable(logging.WARNING)
found = json.loads(infer_signature(np.ones((2, 3), np.float32)).to_dict()["inputs"])
print(sys.argv[1], found)
wanted = {
    "without": [{"type": "any", "required": True}],
    "with": [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}],
}
assert found == wanted[sys.argv[1]], "mlflow has changed"
PYTHON
"$folder/venv/bin/python" "$folder/infer.py" without
"$folder/venv/bin/pip" install --quiet scipy==1.17.0
"$folder/venv/bin/python" "$folder/infer.py" with
