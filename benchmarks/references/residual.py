"""The network of benchmarks.models.residual_network as TorchScript. Runs in PyTorch's environment.

PYTHON benchmarks/references/residual.py PATH WIDTH
"""

import sys

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, takes, gives, stride):
        super().__init__()
        self.first = nn.Conv2d(takes, gives, 3, stride, 1)
        self.second = nn.Conv2d(gives, gives, 3, 1, 1)
        self.short = nn.Identity() if takes == gives else nn.Conv2d(takes, gives, 1, stride)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.short(x))


def build(width):
    layers = [nn.Conv2d(3, width, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = width
    for stage in range(4):
        for block in range(2):
            gives = width << stage
            layers.append(Block(channels, gives, 2 if stage and not block else 1))
            channels = gives
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)).eval()


def main():
    path, width = sys.argv[1:]
    torch.manual_seed(0)
    with torch.inference_mode():
        scripted = torch.jit.freeze(torch.jit.script(build(int(width))))
    scripted.save(path)


if __name__ == "__main__":
    main()
