"""Make a TorchScript model as Triton's users have it: `PYTHON make_triton_torchscript.py FILE`, with torch installed.

The archive records only the names of its arguments, which a config.pbtxt need not use.
"""

import sys

import torch
from torch import Tensor, nn


class SumAndDifference(nn.Module):
    """For two batches of [2, 2] matrices: their sum, and their difference summed over rows and columns."""

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return left + right, (left - right).sum(dim=[1, 2])


if __name__ == "__main__":
    torch.jit.script(SumAndDifference()).save(sys.argv[1])
