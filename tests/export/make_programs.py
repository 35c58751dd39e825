"""Make programs of torch.export: `PYTHON make_programs.py FOLDER`, in the runtime's environment."""

import copy
import sys
from pathlib import Path

import torch


class Halves(torch.nn.Module):
    """Two outputs of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 3), torch.nn.Linear(4, 2)

    def forward(self, x):
        return {"first": self.first(x), "second": torch.relu(self.second(x))}


class Edges(torch.nn.Module):
    """BF16 at the boundary, FP32 inside."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x.float()).bfloat16()


class Updates(torch.nn.Module):
    """Of which one output has the name of the input."""

    def forward(self, x):
        return {"sums": x.sum(dim=1), "x": x + 1}


class Layers(torch.nn.Module):
    """FP16 or BF16 throughout: a sum of 256 terms, a layer norm, a softmax, a maximum and zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.norm, self.last = torch.nn.Linear(4, 256), torch.nn.LayerNorm(256), torch.nn.Linear(256, 3)

    def forward(self, x, y):
        logits = self.last(self.norm(torch.relu(self.wide(x - y / 2))))
        return {"scores": torch.softmax(logits, -1), "logits": logits, "best": logits.argmax(-1), "zeros": 0 * logits}


if __name__ == "__main__":
    torch.manual_seed(0)
    layers = Layers().to(torch.bfloat16)
    unbiased = copy.deepcopy(layers)
    torch.nn.init.zeros_(unbiased.last.bias)
    half = Layers().to(torch.float16)
    for name, module, dtype in (
        ("halves", Halves(), torch.float32),
        ("edges", Edges(), torch.bfloat16),
        ("updates", Updates(), torch.float32),
        ("bfloat16", layers, torch.bfloat16),
        ("unbiased", unbiased, torch.bfloat16),
        ("float16", half, torch.float16),
    ):
        version = Path(sys.argv[1]) / name / "1"
        version.mkdir(parents=True)
        count = 1 if name in ("halves", "edges", "updates") else 2
        rows, example = ({0: torch.export.Dim("rows")},) * count, (torch.rand(2, 4, dtype=dtype),) * count
        torch.export.save(torch.export.export(module.eval(), example, dynamic_shapes=rows), version / "model.pt2")
