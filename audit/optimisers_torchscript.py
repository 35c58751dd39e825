"""Generates TorchScript archives, in PyTorch's environment: `PYTHON … RUNTIME FOLDER FIRST COUNT`."""

import json
import os
import random
import runpy
import sys

import torch
from torch import nn

folder, first, count = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

# Functions of [batch, 4, 8, 8]: pointwise steps, which TorchScript fuses; in OTHERS, steps that it folds, views, and
# writes in place.
POINTWISE = [
    "torch.relu(x)", "torch.sigmoid(x) * x", "x * 1.0 + 0.0", "x / 3.0 - 0.5", "torch.clamp(x, -0.5, 0.7)",
    "torch.where(x > 0, x, x * -0.3)", "torch.tanh(x) + torch.abs(x)", "-(-x)", "torch.pow(x, 2) - x * x",
    "torch.nn.functional.gelu(x)", "torch.nn.functional.hardswish(x)", "x.to(torch.int32).to(torch.float32)",
    "x.to(torch.float16).to(torch.float32)", "torch.fmod(x, 0.3)", "torch.floor(x) + torch.round(x)",
    "torch.remainder(x, -0.7)", "torch.exp(-torch.abs(x))", "torch.max(x, -x)", "torch.sign(x) * torch.sqrt(x.abs())",
    "torch.lerp(x, x * 2, 0.25)", "torch.nn.functional.softplus(x)", "torch.where(torch.isnan(x / x), x, -x)",
]  # fmt: skip
OTHERS = [
    "x - x.mean(dim=1, keepdim=True)", "torch.softmax(x, 1)", "torch.cat([x[:, :2], x[:, 2:] * 2], 1)",
    "x.transpose(1, 3).contiguous().transpose(1, 3)", "x.reshape(x.size(0), -1).reshape(x.size())",
    "torch.flip(x, [2])", "x.clone().add_(1.0).mul_(0.5)", "x + x.detach().clone().fill_(0.25)",
    "x.clone().masked_fill_(x < 0, 0.1)", "self.convolution(x)", "self.norm(self.convolution(x))", "self.norm(x)",
    "torch.nn.functional.max_pool2d(torch.nn.functional.pad(x, [1, 1, 1, 1]), 3, 1)", "self.linear(x)",
    "torch.matmul(x, x.transpose(2, 3)) + 1.0", "x[:, [3, 2, 1, 0]]", "x.sum(0, keepdim=True) * 0 + x",
]  # fmt: skip


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(8, 8)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.running_mean)


jobs = []
for seed in range(first, first + count):
    r = random.Random(seed)
    torch.manual_seed(seed)
    lines = [r.choice(POINTWISE if r.random() < 0.6 else OTHERS) for _ in range(r.randint(3, 8))]
    source = os.path.join(folder, f"{seed}.py")  # a file, because TorchScript reads a function's source from its file
    with open(source, "w") as file:
        body = "".join(f"        x = {line}\n" for line in lines)
        file.write(f"class Chain(Base):\n    def forward(self, x):\n{body}        return x\n")
    made = runpy.run_path(source, {"Base": Base, "torch": torch}, "generated")["Chain"]()
    module = torch.jit.script(made.eval())
    artifact = os.path.join(folder, f"{seed}.pt")
    module.save(artifact)
    declared = [["x", "FP32", [-1, 4, 8, 8]]]
    jobs.append({"name": f"{'; '.join(lines)} {seed}", "artifact": artifact, "declared": declared})
with open(os.path.join(folder, "models.json"), "w") as file:
    json.dump(jobs, file)
