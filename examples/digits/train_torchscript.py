"""A small convolutional network, trained with PyTorch and saved as TorchScript.

TorchScript records no shapes, datatypes or output names; signature.json inside the archive adds them.
"""

import json
import zipfile
from pathlib import Path

import data
import torch
from torch import nn

SIGNATURE = {
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}],
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
}


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 10),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers((image / 16).reshape(-1, 1, 8, 8)).softmax(dim=1)


def drop_debug_records(path: Path) -> None:
    """They hold the paths of the source files on the machine that trained; nothing needs them."""
    whole = path.rename(path.with_suffix(".whole"))
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                new.writestr(entry, old.read(entry))
    whole.unlink()


def main() -> None:
    torch.manual_seed(0)
    digits = data.load()
    image, label = torch.from_numpy(digits.train_image), torch.from_numpy(digits.train_label)
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for rows in data.batches(len(label), 64, epochs=40):
        loss = nn.functional.nll_loss(model(image[rows]).clamp_min(1e-9).log(), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = data.version_folder("digits_torchscript") / "model.pt"
    torch.jit.save(torch.jit.script(model.eval()), str(path), _extra_files={"signature.json": json.dumps(SIGNATURE)})
    drop_debug_records(path)
    with torch.inference_mode():
        scores = torch.jit.load(str(path))(torch.from_numpy(digits.heldout_image))
    data.record("digits_torchscript", scores.numpy())


if __name__ == "__main__":
    main()
