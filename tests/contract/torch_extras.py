"""An operator of torchvision: from a package that has it, from one that does not work, and without one.

A package that registers the operator in Python stands in for torchvision, whose compiled operators need a build of
PyTorch that not every machine can install.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from runtimes.contract import LoadError, LoadOptions
from runtimes.torchscript.runtime import load

SCHEMA = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
PACKAGE = f"""
import torch
library = torch.library.Library("torchvision", "DEF")
library.define({SCHEMA!r})
library.impl("nms", lambda dets, scores, iou_threshold: scores.argsort(descending=True)[:2], "CPU")
"""
BOXES = np.zeros((3, 4), np.float32)
SCORES = np.array([0.1, 0.9, 0.5], np.float32)


class Detector(torch.nn.Module):
    def forward(self, boxes, scores):
        return torch.ops.torchvision.nms(boxes, scores, 0.5)


def load_error(path):
    try:
        load(LoadOptions(str(path)))
    except LoadError as error:
        return str(error)
    raise AssertionError("it was loaded")


def main(folder):
    model, package = folder / "model.pt", folder / "packages" / "torchvision"
    library = torch.library.Library("torchvision", "DEF")
    library.define(SCHEMA)
    torch.jit.script(Detector()).save(str(model))
    library._destroy()

    assert load_error(model) == (
        'it uses the operator torchvision::nms: write extras = ["torchvision"] in its model.toml'
    ), load_error(model)

    package.mkdir(parents=True)
    sys.path.insert(0, str(package.parent))
    (package / "__init__.py").write_text("raise OSError('libtorch_cuda.so: cannot open shared object file')")
    said = load_error(model)
    assert said.startswith(
        "it uses the operator torchvision::nms, but the installed torchvision does not fit PyTorch"
    ), said

    (package / "__init__.py").write_text(PACKAGE + "# works\n")
    loaded = load(LoadOptions(str(model)))
    answer = loaded.infer({"boxes": BOXES, "scores": SCORES}, (), "")
    assert [each.tolist() for each in answer.values()] == [[1, 2]], answer


with tempfile.TemporaryDirectory() as temporary:
    main(Path(temporary))
print("ok")
