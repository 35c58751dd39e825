"""A real tritonserver whose models are loaded on request, from the wheel nvidia-pytriton, with Python backends.

ONNX Runtime runs the models. It needs a separate environment:

    python -m venv triton && triton/bin/pip install nvidia-pytriton onnxruntime
    triton/bin/python benchmarks/references/triton_explicit.py FOLDER

FOLDER/MODEL/1/model.onnx has one input, "x", and one output, "y", of FP32 [n, 1]. It prints its HTTP port.
"""

import sys
import tempfile
from pathlib import Path

from triton_ensembles import STEP, tensors
from triton_repository import serve


def main():
    with tempfile.TemporaryDirectory() as made:
        for model in sorted(Path(sys.argv[1]).absolute().glob("*/1/model.onnx")):
            name = model.parent.parent.name
            folder = Path(made, name)
            (folder / "1").mkdir(parents=True)
            (folder / "1" / "model.py").write_text(STEP.format(threads=1, path=model))
            (folder / "config.pbtxt").write_text('backend: "python"\n' + tensors([-1, 1], [-1, 1]))
        serve(made, "--model-control-mode=explicit")


if __name__ == "__main__":
    main()
