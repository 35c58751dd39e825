"""Make a program of torch.export, and what PyTorch computes with it: `PYTHON make_executorch.py FOLDER`.

It runs in the environment of the runtime executorch, which has PyTorch. The number of rows is dynamic, without a bound.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch.export import Dim, export


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.dense = torch.nn.Conv2d(1, 4, 3), torch.nn.Linear(144, 3)

    def forward(self, image):
        return {"scores": self.dense(torch.relu(self.convolution(image)).flatten(1)), "mean": image.mean((1, 2, 3))}


def main(folder):
    torch.manual_seed(21)
    network, image = Network().eval(), torch.randn(3, 1, 8, 8)
    torch.export.save(export(network, (image,), dynamic_shapes=({0: Dim("rows")},)), folder / "model.pt2")
    with torch.no_grad():
        answer = {name: value.numpy() for name, value in network(image).items()}
    np.savez(folder / "expected.npz", image=image.numpy(), **answer)


main(Path(sys.argv[1]))
