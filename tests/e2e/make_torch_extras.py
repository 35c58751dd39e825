"""Make models with operators of torchvision or torchaudio: `PYTHON make_torch_extras.py FOLDER PACKAGE`.

PYTHON has the package. FOLDER gets NAME.pt or NAME.pt2 for each model, and NAME.npz with the inputs, and with the
module's own answers as OUTPUT__0, ….
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import torch

warnings.filterwarnings("ignore")


def vision(folder: Path) -> None:
    from torchvision.ops import DeformConv2d

    class Detector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deformed = DeformConv2d(3, 4, 3, padding=1)

        def forward(self, image, offset, boxes, scores):
            kept = torch.ops.torchvision.nms(boxes, scores, 0.5)
            regions = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1)
            pooled = torch.ops.torchvision.roi_align(image, regions, 1.0, 2, 2, 2, False)
            return kept, pooled, self.deformed(image, offset)

    corners = torch.rand(6, 2) * 10
    corners[1] = corners[0] + 0.1  # one of these two is suppressed
    boxes = torch.cat([corners, corners + torch.rand(6, 2) * 4 + 4], 1)
    inputs = {"image": torch.randn(1, 3, 16, 16), "offset": torch.randn(1, 18, 16, 16)}
    detector = Detector().eval()
    write(folder, "vision_script", detector, {**inputs, "boxes": boxes, "scores": torch.rand(6)}, script=True)
    write(folder, "vision_program", detector, {**inputs, "boxes": boxes, "scores": torch.rand(6)}, script=False)


def audio(folder: Path) -> None:
    from torchaudio import functional

    class Filter(torch.nn.Module):
        def forward(self, wave):
            filtered = functional.lfilter(wave, torch.tensor([1.0, -0.3, 0.1]), torch.tensor([0.2, 0.3, 0.1]))
            return filtered, functional.overdrive(wave, 20.0, 20.0)

    class Aligner(torch.nn.Module):
        def forward(self, log_probs, targets):
            lengths = torch.tensor([log_probs.size(1)]), torch.tensor([targets.size(1)])
            return torch.ops.torchaudio.forced_align(log_probs, targets, lengths[0], lengths[1], 0)

    wave = {"wave": torch.rand(2, 50) * 2 - 1}
    write(folder, "audio_script", Filter(), wave, script=True)
    write(folder, "audio_program", Filter(), wave, script=False)
    speech = {"log_probs": torch.randn(1, 12, 5).log_softmax(-1), "targets": torch.tensor([[1, 2, 3]])}
    write(folder, "aligner", Aligner(), speech, script=True)


def write(folder: Path, name: str, module: torch.nn.Module, inputs: dict[str, torch.Tensor], script: bool) -> None:
    arguments = tuple(inputs.values())
    with torch.no_grad():
        answers = module(*arguments)
        if script:
            torch.jit.script(module).save(str(folder / f"{name}.pt"))
        else:
            torch.export.save(torch.export.export(module, arguments, strict=False), folder / f"{name}.pt2")
    outputs = {f"OUTPUT__{number}": answer for number, answer in enumerate(answers)}
    np.savez(folder / f"{name}.npz", **{key: value.numpy() for key, value in {**inputs, **outputs}.items()})


if __name__ == "__main__":
    torch.manual_seed(0)
    {"torchvision": vision, "torchaudio": audio}[sys.argv[2]](Path(sys.argv[1]))
