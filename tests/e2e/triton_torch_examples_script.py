"""Runs model.py of Triton's examples `instance_kind` and `preprocessing` as the runtime `python` does.

    PYTHON triton_torch_examples_script.py PACKAGES instance_kind|preprocessing MODEL.py

in an environment with PyTorch; PACKAGES is a site-packages folder with torchvision and Pillow. The expected answers are
those of torchvision. TORCH_HOME is an empty folder, in which the random weights are that the first example would
download.
"""

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
packages, example, file = sys.argv[1:]
sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(packages)
sys.path.append(str(ROOT))

from torchvision_without_operators import import_torchvision  # noqa: E402

import_torchvision()

from PIL import Image  # noqa: E402
from torchvision import models, transforms  # noqa: E402

from runtimes.contract import LoadOptions, TensorSpec  # noqa: E402
from runtimes.python import runtime  # noqa: E402


def load(inputs, outputs):
    """The model with the tensors that its config.pbtxt declares, with the batch dimension."""
    return runtime.load(LoadOptions(file, name=example, version="1", inputs=inputs, outputs=outputs, max_rows=128))


def instance_kind():
    torch.manual_seed(0)
    weights = models.ResNet50_Weights.IMAGENET1K_V2
    expected = models.resnet50().eval()
    cache = Path(os.environ["TORCH_HOME"]) / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(expected.state_dict(), cache / weights.url.rpartition("/")[2])
    model = load((TensorSpec("INPUT", "FP32", (-1, 3, 224, 224)),), (TensorSpec("OUTPUT", "FP32", (-1, 1000)),))
    images = torch.rand(2, 3, 224, 224)
    found = model.infer({"INPUT": images.numpy()}, (), "default")["OUTPUT"]
    with torch.no_grad():
        return found, expected(images).numpy()


def preprocessing():
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    model = load((TensorSpec("INPUT_0", "UINT8", (-1, -1)),), (TensorSpec("OUTPUT_0", "FP32", (-1, 3, 224, 224)),))
    given = np.frombuffer(buffer.getvalue(), np.uint8)[None]
    found = model.infer({"INPUT_0": given}, (), "default")["OUTPUT_0"]
    prepare = transforms.Compose(
        [
            transforms.Resize([224, 224]),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    return found, prepare(image).numpy()[None]


found, expected = {"instance_kind": instance_kind, "preprocessing": preprocessing}[example]()
print(json.dumps({"off": float(np.abs(found - expected).max()), "spread": float(np.ptp(expected))}))
