"""Makes a TorchScript model as Triton's users have it: `PYTHON make_triton_torchscript.py FILE`, where there is torch.

The archive records only the names of its arguments, which a config.pbtxt need not use.
"""

import sys

import torch
from torch import Tensor, nn


class SumAndDifference(nn.Module):
    """Of the rows of two matrices of [2, 2]."""

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return left + right, (left - right).sum(dim=[1, 2])


if __name__ == "__main__":
    torch.jit.script(SumAndDifference()).save(sys.argv[1])
