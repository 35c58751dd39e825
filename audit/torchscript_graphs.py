"""Generates random PyTorch models in the runtime's environment: `PYTHON torchscript_graphs.py FOLDER COUNT`.

The source of each module is generated from steps that are known to mix rows or to keep them independent. The module is
then saved in one of the usual ways: scripted, traced, frozen or exported. `graphs.json` describes all modules.
"""

import importlib.util
import json
import os
import random
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from audit.torchscript_steps import APART, COUNTS, MEET, Step
from runtimes.torchscript.names import ResultNames

# The input's datatype and shape, the first line of forward(), and the last size after that line.
STARTS = [("FP32", [-1, 7], "", 7), ("INT64", [-1, -1], "x = self.table(x)", 8), ("FP32", [-1, 3, 8, 8], "", 8)]
ENDS = [
    "return x",
    "return x, x.reshape(x.size(0), -1).argmax(1)",
    "return {'y': x}",
    "return x, (x * 2, [x.reshape(x.size(0), -1).argmax(1)])",
    "return {'y': [x, x + 1]}",
]
WAYS = ["scripted", "traced", "frozen", "exported"]


class Text:
    """The source text of a module while it is being generated."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.datatype, self.shape, first, self.last = self.random.choice(STARTS)
        self.lines, self.made, self.names, self.mixing = [first] if first else [], [], [], ""
        self.rank = 3 if first else len(self.shape)

    def step(self, steps: Sequence[Step], exported: bool) -> Step:
        fitting = [step for step in steps if self.rank in step.ranks and (step.exports or not exported)]
        step = self.random.choice(fitting)
        values = {"d": self.last, "k": len(self.names), "r": self.rank}
        self.lines += _filled(step.lines, values).splitlines()
        self.made += _filled(step.made, values).splitlines()
        self.names.append(step.name)
        self.last = self.last + 2 if step.last == 99 else step.last or self.last
        self.last = -self.last * values["d"] if self.last < 0 else self.last
        self.rank = step.rank or self.rank
        return step

    def source(self, name: str) -> str:
        made = "\n".join(f"        {line}" for line in self.made)
        lines = "\n".join(f"        {line}" for line in self.lines)
        return (
            f"import torch\nfrom torch import nn\n\n\nclass {name}(nn.Module):\n    def __init__(self):\n"
            f"        super().__init__()\n        self.table = nn.Embedding(64, 8)\n{made}\n\n"
            f"    def forward(self, x):\n{lines}\n"
        )


def _filled(text: str, values: dict[str, Any]) -> str:
    for name, value in values.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def written(seed: int, exported: bool) -> Text:
    text = Text(seed)
    for _ in range(text.random.randint(1, 3)):
        text.step(APART, exported)
    if seed % 2 and text.random.random() < 0.15 and not exported:
        text.mixing = text.step(COUNTS, exported).name
        return text
    if seed % 2:
        text.mixing = text.step(MEET, exported).name
    for _ in range(text.random.randint(0, 2)):
        text.step(APART, exported)
    text.lines.append(text.random.choice(ENDS))
    return text


def save(text: Text, name: str, way: str, folder: Path) -> str:
    """Save the module in the given way. Return the name of its file."""
    file = folder / f"{name}.py"
    file.write_text(text.source(name))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    torch.manual_seed(len(text.lines))
    model = getattr(module, name)().eval()
    x = _input(text, 3, 5)
    if way == "exported":
        dims = {place: torch.export.Dim.DYNAMIC for place, size in enumerate(text.shape) if size < 0}
        exported = torch.export.export(model, (x,), dynamic_shapes=(dims,))
        if text.random.random() < 0.5:
            exported = exported.run_decompositions({})
        torch.export.save(exported, folder / f"{name}.pt2")
        return f"{name}.pt2"
    made = torch.jit.trace(model, (x,), strict=False, check_trace=False) if way == "traced" else torch.jit.script(model)
    if way == "frozen":
        made = torch.jit.freeze(made)
    outputs = [ResultNames().of(made(_input(text, *sizes))) for sizes in ((3, 5), (4, 6))]
    signature = {
        "inputs": [{"name": "x", "datatype": text.datatype, "shape": text.shape}],
        "outputs": [
            {
                "name": name,
                "datatype": "FP32" if one.is_floating_point() else "INT64",
                "shape": _open(one.shape, outputs[1][name].shape),
            }
            for name, one in outputs[0].items()
        ],
    }
    torch.jit.save(made, folder / f"{name}.pt", _extra_files={"signature.json": json.dumps(signature)})
    return f"{name}.pt"


def _input(text: Text, rows: int, open_size: int) -> torch.Tensor:
    sizes = [size if size >= 0 else open_size if place else rows for place, size in enumerate(text.shape)]
    return torch.randn(sizes) if text.datatype == "FP32" else torch.randint(0, 50, sizes)


def _open(one: Sequence[int], two: Sequence[int]) -> list[int]:
    """Return the shape that two runs with different sizes have in common, with -1 where they differ."""
    return [size if size == other else -1 for size, other in zip(one, two, strict=True)]


def main() -> None:
    warnings.filterwarnings("ignore")
    folder, models = Path(sys.argv[1]), {}
    for seed in range(int(sys.argv[2])):
        way = WAYS[seed // 2 % len(WAYS)]
        text = written(seed, way in ("exported", "traced"))
        name = f"torch{seed}"
        try:
            file = save(text, name, way, folder)
        except Exception as error:  # a module that cannot be saved in this way is skipped
            print(f"{name} is not {way} ({', '.join(text.names)}): {str(error)[:200]}", file=sys.stderr)
            continue
        models[name] = {"artifact": file, "mixing": text.mixing, "way": way, "steps": text.names}
    (folder / "graphs.json").write_text(json.dumps(models))


if __name__ == "__main__":
    main()
