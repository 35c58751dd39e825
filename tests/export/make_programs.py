"""Make programs of torch.export: `PYTHON make_programs.py FOLDER`, in the runtime's environment."""

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


if __name__ == "__main__":
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)).to(torch.bfloat16)
    for name, module, dtype in (
        ("halves", Halves(), torch.float32),
        ("edges", Edges(), torch.bfloat16),
        ("bfloat16", layers, torch.bfloat16),
    ):
        version = Path(sys.argv[1]) / name / "1"
        version.mkdir(parents=True)
        rows = ({0: torch.export.Dim("rows")},)
        program = torch.export.export(module.eval(), (torch.rand(2, 4, dtype=dtype),), dynamic_shapes=rows)
        torch.export.save(program, version / "model.pt2")
