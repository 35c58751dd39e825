"""Check the input ranges that are read from PyTorch graphs: `PYTHON -I torch_ranges.py`, in the runtime's environment.

Each module is scripted, traced and exported, unless a check names fewer forms; it is not run. A failed check raises.
"""

import importlib.util
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2] / "runtimes"
spec = importlib.util.spec_from_file_location("runtimes", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
sys.modules["runtimes"] = importlib.util.module_from_spec(spec)

from runtimes.contract import InputRange, TensorSpec  # noqa: E402
from runtimes.torchscript.analysis import ranges  # noqa: E402

warnings.filterwarnings("ignore")
FORMS = ("scripted", "traced", "exported")
IDS, SCORES = torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 4)


def read(module: nn.Module, form: str, example: Tensor) -> dict[str, InputRange]:
    """Return the input's range. The input is called "x" in the model and "given" in the declaration."""
    module.eval()
    if form in ("exported", "decomposed"):
        dynamic = {"x": {0: torch.export.Dim.DYNAMIC}}
        program = torch.export.export(module, (example,), dynamic_shapes=dynamic)
        return ranges.of_exported(program.run_decompositions() if form == "decomposed" else program)
    program = torch.jit.script(module) if form == "scripted" else torch.jit.trace(module, example, check_trace=False)
    found = ranges.of_scripted(program, [("x", TensorSpec("given", "", (-1, *example.shape[1:])))])
    assert set(found) <= {"given"}, found
    return {"x": found["given"]} if found else {}


def check(module: nn.Module, low: float, high: float, rows: bool = False, forms=FORMS, example: Tensor = IDS) -> None:
    for form in forms:
        found = read(module, form, example).get("x")
        assert found is not None, (type(module).__name__, form)
        assert abs(found.low - low) + abs(found.high - high) < 1e-4, (type(module).__name__, form, found)
        assert found.rows == rows, (type(module).__name__, form)


class Words(nn.Module):
    """Looks ids up in one table, and ids plus two in another. The ids are reshaped and converted first."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(300, 4, padding_idx=0), nn.Embedding(52, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 4).to(torch.int64).contiguous()
        shifted = self.places(x[:, 1:] + 2)
        return functional.dropout(self.words(x), 0.1, self.training)[:, 1:] + shifted


class Inside(nn.Module):
    """Uses a module in a list within a module, and values in a tuple."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([Words(), Words()])

    def forward(self, x: Tensor) -> Tensor:
        pair = (x.unsqueeze(-1), x)
        total = torch.zeros(1)
        for part in self.parts:
            total = total + part(pair[0].squeeze(-1)).sum()
        return total + x


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(77, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bag(x)


class Parameter(nn.Module):
    """Indexes a parameter, in each of several ways."""

    def __init__(self, way: str):
        super().__init__()
        self.way: torch.jit.Final[str] = way
        self.table, self.wide = nn.Parameter(torch.randn(31, 4)), nn.Parameter(torch.randn(4, 31))

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "index":
            return self.table[x]
        elif self.way == "second dimension":
            return self.wide[:, x]
        elif self.way == "index_select":
            return torch.index_select(self.wide, 1, x.flatten())
        elif self.way == "gather":
            return torch.gather(self.table, 0, x.int().long())
        elif self.way == "take_along_dim":
            return torch.take_along_dim(self.table, x, dim=0)
        elif self.way == "cut above":
            return self.table[torch.clamp(x, min=0)]
        elif self.way == "from the end":
            return functional.embedding(torch.where(x < 0, x + 31, x), self.table)
        else:
            return functional.embedding(x - 1, self.table * 2) if self.way == "shifted" else x


class Scatter(nn.Module):
    """Writes a one at each index, in new rows of zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(x.size(0), 9).scatter_(1, x, 1.0)


class OneHot(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.one_hot(x, 12)


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(torch.clamp((x / 255 - 0.5) / 0.25, -1.0, 1.0))


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x.mul_(2.0)
        x.clamp_(-4, 6)
        return x + 1


class Layers(nn.Module):
    """Applies a clipping layer. If scripted, each of these layers is a function with branches."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(-x) * 2


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.rsub(x - self.mean, 1.0)
        return torch.minimum(torch.relu(x), torch.tensor(5.0))


class Buckets(nn.Module):
    """Clamps indices before the lookup, so no value is refused."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(40, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(torch.clamp(x + 20, 0, 39))


class Chosen(nn.Module):
    """Uses tables in a loop and in branches. Which branch runs is known from the graph, or only at run time."""

    def __init__(self, known: bool):
        super().__init__()
        self.known: torch.jit.Final[bool] = known
        self.one, self.two, self.three = nn.Embedding(50, 4), nn.Embedding(60, 4), nn.Embedding(70, 4)

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(1)
        if self.known:
            total = total + self.three(x).sum()
        else:
            total = self.one(x).sum() if int(x.sum()) > 4 else self.two(x).sum()
        for _ in range(x.size(0)):
            total = total + self.three(x).mean()
        return total


class Quantised(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.quantize_per_tensor(x, 0.5, 128, torch.quint8).dequantize()


class FakeQuantised(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, 0.25, 0, -128, 127)


class Mask(nn.Module):
    """A mask's values are not indices, and a table that is computed from the input has no fixed size."""

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.cat([x, x], 0)
        return wide[x.flatten()[:2]] + x[x > 4].sum() + torch.clamp(x, min=0)


check(Words(), 0, 49, rows=True, forms=(*FORMS, "decomposed"))
check(Inside(), 0, 49, rows=True)
check(Bag(), 0, 76, rows=True, forms=("traced", "exported"))
for way in ("index", "second dimension", "index_select", "gather", "take_along_dim", "cut above", "from the end"):
    check(Parameter(way), 0, 30, rows=True)
check(Parameter("shifted"), 1, 31, rows=True, forms=("exported",))
check(Scatter(), 0, 8, rows=True, forms=("scripted", "exported", "decomposed"))
check(OneHot(), 0, 11, rows=True)
check(Clamp(), 63.75, 191.25, example=SCORES, forms=(*FORMS, "decomposed"))
check(InPlace(), -2, 3, example=SCORES)
check(Layers(nn.Hardtanh(-2.0, 3.0)), -3, 2, example=SCORES)
check(Layers(nn.Hardtanh(-2.0, 3.0, inplace=True)), -3, 2, example=SCORES)
check(Layers(nn.ReLU6()), -6, 0, example=SCORES)
check(Two(), -1, 4, example=SCORES)
check(Buckets(), -20, 19)
check(Chosen(True), 0, 69, rows=True, forms=("scripted",))
check(Chosen(False), 0, 49, rows=True, forms=("scripted",))
check(Quantised(), -64, 63.5, forms=("scripted", "traced"), example=SCORES)
check(FakeQuantised(), -32, 31.75, forms=("scripted", "traced"), example=SCORES)
for form in ("scripted", "traced"):
    assert read(Mask(), form, IDS) == {}, form
print("as expected")
