"""Make a program of torch.export, and what PyTorch computes with it: `PYTHON make_executorch.py FOLDER`.

It runs in the environment of the runtime executorch, which has PyTorch. The number of rows is dynamic, without a bound.
One argument has to be named, and one output cannot be served.
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

    def forward(self, image, *, gain):
        scores = self.dense(torch.relu(self.convolution(image)).flatten(1)) * gain
        return {"frequencies": torch.fft.fft2(image), "scores": scores, "mean": image.mean((1, 2, 3))}


def main(folder):
    torch.manual_seed(21)
    network, image, gain = Network().eval(), torch.randn(3, 1, 8, 8), torch.randn(3, 1)
    rows = Dim("rows")
    shapes = {"image": {0: rows}, "gain": {0: rows}}
    program = export(network, (image,), {"gain": gain}, dynamic_shapes=shapes)
    torch.export.save(program, folder / "model.pt2")
    with torch.no_grad():
        answer = network(image, gain=gain)
    answer.pop("frequencies")  # they are complex, and refused
    np.savez(folder / "expected.npz", image=image, gain=gain, **answer)


main(Path(sys.argv[1]))
