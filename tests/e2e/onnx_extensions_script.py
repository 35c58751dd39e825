"""Run models of onnxruntime-extensions outside of the gateway: `PYTHON onnx_extensions_script.py REPOSITORY TEXTS`.

TEXTS is a list, as JSON. Writes model → output → values, as JSON, to standard output.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime_extensions import get_library_path

texts, answers = json.loads(sys.argv[2]), {}
for name in ("upper", "length", "tokenizer", "padding_tokenizer"):
    settings = ort.SessionOptions()
    settings.register_custom_ops_library(get_library_path())
    session = ort.InferenceSession(Path(sys.argv[1], name, "1", "model.onnx"), settings)
    given = texts[:1] if "tokenizer" in name else texts
    found = session.run(None, {"x": np.array(given, object)})
    answers[name] = {each.name: array.tolist() for each, array in zip(session.get_outputs(), found, strict=True)}
json.dump(answers, sys.stdout)
