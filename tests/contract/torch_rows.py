"""Check the analysis of rows in PyTorch graphs: `PYTHON -I torch_rows.py`, in the runtime's environment.

Each module is scripted, traced or exported, but not run. A failed check raises.
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

from runtimes.contract import BatchAnalysis, TensorSpec  # noqa: E402
from runtimes.torchscript.analysis import read, script  # noqa: E402

warnings.filterwarnings("ignore")
SEQUENCE, MATRIX, PICTURE = (-1, -1, 4), (-1, 4), (-1, 3, 8, 8)


def scripted(module: nn.Module, shape=MATRIX) -> BatchAnalysis:
    return _read(torch.jit.script(module.eval()), shape)


def traced(module: nn.Module, shape=MATRIX) -> BatchAnalysis:
    return _read(torch.jit.trace(module.eval(), torch.randn(_sizes(shape)), check_trace=False), shape)


def frozen(module: nn.Module, shape=MATRIX) -> BatchAnalysis:
    return _read(torch.jit.freeze(torch.jit.script(module.eval())), shape)


def _read(module, shape) -> BatchAnalysis:
    name = module.forward.schema.arguments[1].name
    return read.of_scripted(module, [(name, TensorSpec(name, "FP32", shape))], ["OUTPUT__0"])


def exported(module: nn.Module, shape=MATRIX, functional=False) -> BatchAnalysis:
    sizes = {place: torch.export.Dim.AUTO for place, size in enumerate(shape) if size < 0}
    sizes[0] = torch.export.Dim.DYNAMIC
    program = torch.export.export(module.eval(), (torch.randn(_sizes(shape)),), dynamic_shapes=(sizes,))
    if functional:
        program = program.run_decompositions({})
    return read.of_exported(program, ["y"])


def _sizes(shape):
    return [3 if size < 0 and not place else 5 if size < 0 else size for place, size in enumerate(shape)]


def _of_program(module: nn.Module, *sizes) -> BatchAnalysis:
    """Export with dynamic numbers of rows and columns, read the file back, and return its analysis."""
    dynamic = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},) * len(sizes)
    program = torch.export.export(module.eval(), tuple(map(torch.randn, sizes)), dynamic_shapes=dynamic)
    file = Path(FOLDER) / "program.pt2"
    torch.export.save(program, file)
    return read.of_exported(torch.export.load(file), ["y"])


class Sum(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.5)
        )
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4
        x = self.body(x)
        return torch.softmax(self.head(x.view(-1, 4 * 4 * 4)), 1)


class Transformer(nn.Module):
    """Attention written out with sizes, positions and a causal mask, then a recurrent layer and its last state."""

    def __init__(self):
        super().__init__()
        self.query, self.place = nn.Linear(4, 4), nn.Embedding(32, 4)
        self.lstm = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        b, t = x.size(0), x.size(1)
        x = x + self.place(torch.arange(t, device=x.device)).unsqueeze(0)
        heads = self.query(x).view(b, t, 2, 2).transpose(1, 2)
        mask = torch.tril(torch.ones(t, t)).view(1, 1, t, t)
        scores = (heads @ heads.transpose(-2, -1)).masked_fill(mask == 0, float("-inf"))
        x = (scores.softmax(-1) @ heads).transpose(1, 2).contiguous().view(b, t, 4)
        x = self.layer(x)
        every, (last, _) = self.lstm(x)
        return every[:, -1], torch.cat([last[0], last[1]], 1)


class Loops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(x.size(0), 4)
        seen: list[Tensor] = []
        for i in range(x.size(1)):
            state = torch.tanh(state + x[:, i])
        for i in range(2):
            seen.append(state * i)
        return torch.stack(seen, 1)


class Fills(nn.Module):
    """Writes in place, through views, into new tensors. A view sees later writes."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        view = x[:, 1:]
        x.mul_(2.0).add_(1.0)
        out = torch.zeros_like(x)
        out[:, 1:] = view
        out[:, 0].add_(x[:, 0])
        first, second = out.chunk(2, 1)
        first.sub_(second)
        return out


class Lines(nn.Module):
    """A module whose forward is defined from text, because scripting reads source code."""

    def __init__(self, made):
        super().__init__()
        made(self)


def line(text: str, made=lambda self: None) -> nn.Module:
    module = Lines(made)
    scope = {"torch": torch, "functional": functional, "Tensor": Tensor, "nn": nn}
    module.forward = None
    body = "\n".join("    " + each for each in text.splitlines())
    file = Path(FOLDER) / f"line{len(list(Path(FOLDER).iterdir()))}.py"
    file.write_text("def forward(self, x: Tensor):\n" + body + "\n")
    exec(compile(file.read_text(), str(file), "exec"), scope)
    kind = type("Line", (Lines,), {"forward": scope["forward"]})
    return kind(made)


MIXED = [
    ("return x - x.mean(0)", "mean", "reduces over the rows"),
    ("return x / x.max()", "max", "reduces over the rows"),
    ("return torch.softmax(x, 0)", "softmax", "normalizes over the rows"),
    ("return x.cumsum(0)", "cumsum", "sums over the rows"),
    ("return x.sort(0)[0]", "sort", "sorts the rows"),
    ("return x + x.flip(0)", "flip", "the rows"),
    ("return x - x[0]", "select", "particular rows"),
    ("return x[:2]", "slice", "some of the rows"),
    ("return torch.cat([x, torch.zeros(1, 4)])", "cat", "other values among the rows"),
    ("return x @ x.t()", "matmul", "pairs each row"),
    ("return x.squeeze()", "squeeze", "drops the dimension of the batch"),
    ("return x.t()", "output", "the batch along dimension 1"),
    ("return x.view(-1)", "output", "several rows"),
    ("return torch.zeros(1, 4)", "output", "1 rows whatever the batch"),
    ("return x.nonzero()", "nonzero", "depends on the values of all rows"),
    ("return torch.unique(x)", "unique", "depends on the values of all rows"),
    ("return torch.where(x > 0)[0]", "where", "depends on the values of all rows"),
    ("return x[x[:, 0] > 0]", "index", ""),
    ("return x + torch.randn_like(x)", "randn_like", "is random"),
    ("return functional.dropout(x, 0.5, True)", "dropout", "is random"),
    ("x = x.clone()\nv = x[:, 0]\nv.add_(x.sum())\nreturn x", "sum", "reduces over the rows"),
    ("y = x.clone()\nv = y.view(-1, 2)\ny.sub_(x.mean(0))\nreturn v.view(-1, 4)", "mean", "reduces over the rows"),
    ("y = x.clone()\nif x.dim() == 2:\n    y.sub_(x.mean(0))\nreturn y", "mean", "reduces over the rows"),
    ("y = x.clone()\nfor i in range(x.size(1)):\n    y.mul_(y.sum())\nreturn y", "sum", "reduces over the rows"),
    ("if bool(x.max() > 0):\n    x = -x\nreturn x", "max", "reduces over the rows"),
]
# Scripting drops this write, because no output seems to need it, so the graph that runs mixes nothing.
IN_A_LIST = "y = x.clone()\nl = [x, y]\ny.sub_(x.mean(0))\nreturn torch.cat(l, 1)"
OPEN = [
    "return x / x.size(0)",
    "return x + torch.arange(x.size(0)).unsqueeze(1)",
    "if x.size(0) > 2:\n    x = -x\nreturn x",
    "assert x.size(0) < 3\nreturn x",
    "out = torch.zeros(4)\nout[:] = x[:, 0].mean()\nreturn x + out",
    "return torch.nn.functional.one_hot(x.long()).float().sum(-1)",
    # The number of rows in arguments that only a few rules look at.
    "return torch.roll(x, x.size(0), 1)",
    "return torch.add(x, x, alpha=x.size(0))",
    "return functional.pad(x, (1, 1), value=float(x.size(0)))",
    "return torch.linalg.vector_norm(x, ord=x.size(0), dim=1)",
    "return functional.embedding_bag(x.long(), torch.ones(9, 4))",
    "return x + torch.arange(8.0).unfold(0, x.size(0), 1)[0].unsqueeze(1)",
    "return x + torch.arange(8.0).topk(x.size(0))[0].unsqueeze(1)",
    "return functional.one_hot(x.argmax(1) * 0, x.size(0)).float().mean(-1)",
    "if x.size(0) in [2, 3]:\n    x = -x\nreturn x",
    "return torch.tril(x.unsqueeze(1).repeat(1, 4, 1), diagonal=x.size(0) - 3)",
    # Broadcast operands, and parts that do not begin at a multiple of the number of rows.
    "i = x.argmax(1).view(-1, 1, 1)\nreturn torch.take_along_dim(x.unsqueeze(2).expand(-1, 4, 3), i, 2).view(-1, 1)",
    "n = x.size(0)\nl = torch.cat([x, x, x]).split([3, n, n * 2 - 3])\nreturn l[1]",
]
# Elements that are selected by a mask and written back to the same positions.
PUT_BACK = "y = x.clone()\nm = y > 0\ny[m] = x[m] * 2\nreturn y"


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.seen[0].add_(1.0)
        return x + self.seen[0]


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: Tensor, again: bool = False) -> Tensor:
        if again:
            x = x - x.mean(0)
        self.seen.add_(1.0)
        return x + self.seen


class Remembers(nn.Module):
    """Keeps state in a list, a dict and a buffer, each in the line that the test chooses."""

    items: list[Tensor]
    counts: dict[str, int]
    always: bool

    def __init__(self):
        super().__init__()
        self.items, self.counts, self.always = [torch.zeros(4)], {"runs": 0}, True
        self.register_buffer("seen", torch.zeros(4))


class Appends(Remembers):
    def forward(self, x: Tensor) -> Tensor:
        self.items.append(x[0])
        return x


class FillsItem(Remembers):
    def forward(self, x: Tensor) -> Tensor:
        self.items[0].add_(1.0)
        return x


class CountsInDict(Remembers):
    def forward(self, x: Tensor) -> Tensor:
        self.counts["runs"] += 1
        return x


class AddsInto(Remembers):
    def forward(self, x: Tensor) -> Tensor:
        torch.add(self.seen, 1.0, out=self.seen)
        return x


class AppendsInBranch(Remembers):
    def forward(self, x: Tensor) -> Tensor:
        if self.always:
            self.items.append(x[0])
        return x


class CountsInBranch(Remembers):
    def forward(self, x: Tensor) -> Tensor:
        if self.always:
            self.counts["runs"] += 1
        return x


class OwnList(Remembers):
    def forward(self, x: Tensor) -> Tensor:
        items = [self.items[0]]
        items.append(x * 2)
        counts = {"runs": x}
        counts["runs"] = x * 2
        return items[1]


class Sometimes(nn.Module):
    flag: bool

    def __init__(self):
        super().__init__()
        self.flag = False
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.flag or self.training:
            self.seen.add_(1.0)
        return x


def apart(found: BatchAnalysis) -> None:
    assert found == BatchAnalysis(), found


def main() -> None:
    for way in (scripted, traced, frozen, exported):
        apart(way(Network(), PICTURE))
        apart(way(Transformer(), SEQUENCE))
        apart(way(Fills()))
    apart(exported(Transformer(), SEQUENCE, functional=True))
    apart(exported(Fills(), functional=True))
    apart(scripted(Loops(), SEQUENCE))
    apart(scripted(line("return x, (x * 2, [x + 1])")))
    assert len(scripted(line("return x, (x.t(), [x.sum()])")).mixes) == 2
    for text, operator, reason in MIXED:
        found = scripted(line(text))
        assert any(operator in each and reason in each for each in found.mixes), (text, found)
    for text in OPEN:
        found = scripted(line(text))
        assert found.unknown or found.mixes, (text, found)
    mixed = [MIXED[place][0] for place in (0, 6, 20, 21)]
    for text in [*mixed, IN_A_LIST, *(OPEN[place] for place in (0, 1, 6, 7, 15))]:
        found = exported(line(text))
        assert found.unknown or found.mixes, (text, found)

    # Random numbers count in each branch that may run while a model is served.
    drawn = "if %s:\n    x = x + torch.rand_like(x)\nreturn x"
    found = scripted(line(drawn % "bool(x.sum() > 0)"))
    assert found.varies == "aten::rand_like is random", found
    apart(scripted(line(drawn % "self.training")))

    found = scripted(line(PUT_BACK))
    assert found.unknown, found
    assert not found.mixes, found

    # A layer that iterates over the rows, one in training mode, and 8-bit weights with one scale for all rows.
    def recurrent(self):
        self.layer = nn.GRU(4, 3)

    found = scripted(line("return self.layer(x)[0]", recurrent), SEQUENCE)
    assert "from row to row" in found.mixes[0], found

    def training(self):
        self.layer = nn.BatchNorm1d(4, track_running_stats=False)

    found = scripted(line("return self.layer(x)", training))
    assert "in training mode takes mean and variance of all rows" in found.mixes[0], found
    if "fbgemm" in torch.backends.quantized.supported_engines:
        model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
        assert "one scale from all rows" in scripted(model).mixes[0]

    # State, also if it is changed through a view. A branch counts only if it can run.
    assert "writes to attribute 'seen'" in scripted(Counts()).writes[0]
    found = scripted(Counter())
    assert found.writes, found
    assert not found.mixes, found
    assert "buffer 'seen'" in exported(Counts()).writes[0]
    apart(scripted(Sometimes()))

    for module, name in (
        (Appends(), "items"), (FillsItem(), "items"), (CountsInDict(), "counts"), (AddsInto(), "seen"),
        (AppendsInBranch(), "items"), (CountsInBranch(), "counts"),
    ):  # fmt: skip
        found = scripted(module)
        assert f"writes to attribute '{name}" in "".join(found.writes), (module, found)
    assert not scripted(OwnList()).writes

    # A graph that cannot be followed is still known to change state.
    reader, script.Reader = script.Reader, None
    found = scripted(Counter())
    script.Reader = reader
    assert found.writes, found
    assert "the graph cannot be followed" in found.unknown, found

    # Nested lists with so many paths through them that following each one would never end.
    pairs = [f"a{n} = (a{n - 1}, b{n - 1})\nb{n} = (b{n - 1}, a{n - 1})" for n in range(1, 15)]
    views = ["l = [l[0].view(-1, 4), l[1].view(-1, 2), l[0][:, :2]]"] * 14
    for text in [
        "\n".join(["a0 = x.view(-1, 4)\nb0 = x.view(-1, 4)", *pairs, "return a14"]),
        "\n".join(["l = [x.view(-1, 4), x[:, :2]]", *views, "l[0].add_(1.0)\nreturn l[2]"]),
    ]:
        found = scripted(line(text))
        assert found.unknown, (text, found)

    # Inputs.
    found = scripted(Network(), (1, 3, 8, 8))
    assert "has a fixed first dimension" in found.unknown[0], found
    assert "has no known rank" in _read(torch.jit.script(Fills()), None).unknown[0]
    program = torch.export.export(Fills(), (torch.randn(3, 4),))
    assert "has a fixed first dimension" in read.of_exported(program, ["y"]).unknown[0]

    # The numbers of rows that an export accepts: up to a bound, or those that satisfy its guards.
    for bounds, unknown, max_rows in [
        ({"max": 16}, (), 16),
        ({"min": 1, "max": 4096}, (), None),
        ({"min": 4, "max": 64}, ("the export allows 4 rows at least",), 64),
    ]:
        dynamic = ({0: torch.export.Dim("rows", **bounds)},)
        found = read.of_exported(torch.export.export(Fills(), (torch.randn(5, 4),), dynamic_shapes=dynamic), ["y"])
        assert (found.unknown, found.max_rows) == (unknown, max_rows), found
    for text, needs, max_rows in [
        ("return x + 1 if x.shape[0] > 20 else x", "", 20),
        ("return x + 1 if x.shape[0] % 4 == 0 else x", "(x.size()[0] % 4) == 0", None),
        ("return x + 1 if x.shape[0] == 7 else x", "x.size()[0] != 7", None),
        ("return torch.cat([x, x, x]).chunk(3)[1]", "", None),  # a guard that every number of rows satisfies
        ("return x + 1 if x.shape[0] * x.shape[1] > 99 else x", "x.size()[1]*x.size()[0] <= 99", None),
    ]:
        found = _of_program(line(text), (8, 6))
        assert (found.max_rows, found.unknown) == (max_rows, ("the export needs " + needs,) if needs else ()), found
    apart(_of_program(Sum(), (8, 6), (8, 6)))
    print("as expected")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as FOLDER:
        main()
