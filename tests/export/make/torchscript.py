"""Make the export table's TorchScript models: `PYTHON torchscript.py FOLDER`, in the runtime's environment."""

import json
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

warnings.filterwarnings("ignore")


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.dense = nn.Linear(8 * 6 * 5, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.max_pool2d(functional.relu(self.norm(self.grouped(x))), 2)
        return self.dense(y.flatten(1))


class Fcn(nn.Module):
    """The output's five channels differ from its height and width, so a changed layout changes its shape."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(6, 6, 2, stride=2)
        self.last = nn.Conv2d(6, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.relu(self.up(functional.relu(self.down(x)))))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 5, bidirectional=True, batch_first=True)
        self.dense = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = self.lstm(x)
        return y, self.dense(y[:, -1])


class Attention(nn.Module):
    """A transformer block, written out, because nn.TransformerEncoderLayer is traced as a single operator."""

    def __init__(self):
        super().__init__()
        self.before, self.after = nn.LayerNorm(16), nn.LayerNorm(16)
        self.mix, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.wide, self.narrow = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = [
            part.unflatten(2, (2, 8)).transpose(1, 2) for part in self.mix(self.before(x)).chunk(3, dim=2)
        ]
        weights = torch.softmax(query @ key.transpose(2, 3) / 8**0.5, dim=-1)
        x = x + self.out((weights @ value).transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.wide(self.after(x))))


class Branch(nn.Module):
    """Applies one of two layers, depending on the input."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):  # noqa: SIM108 - a branch of the script, not an expression
            y = self.one(x)
        else:
            y = -self.two(x)
        return y


class Loop(nn.Module):
    """Loops a number of times that depends on the input."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        rounds = 0
        while bool(x.abs().max() > 1.0) and rounds < 5:
            x = torch.tanh(self.dense(x)) * 1.5
            rounds += 1
        return x


class Multi(nn.Module):
    """Two outputs of the same shape."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.dense = nn.Linear(3, 4)

    def forward(self, tokens: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        words, numbers = self.table(tokens).mean(dim=1), self.dense(features)
        return torch.sigmoid(words + numbers), words - numbers


class Passing(nn.Module):
    """One of the outputs is the input."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x * 2 + 1


class Names(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 3)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.dense(first - second)


class Long(nn.Module):
    """An output of (N, 5, 320), which could be mistaken for an image's layout."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x))


def main(root):
    def write(name, module, inputs, outputs, script=False):
        """Write a model. inputs: name → example; outputs: name → shape with a dynamic batch."""
        module = module.eval()
        with torch.no_grad():
            made = torch.jit.script(module) if script else torch.jit.trace(module, tuple(inputs.values()))
        kinds = {torch.float32: "FP32", torch.int64: "INT64"}
        described = {
            "inputs": [
                {"name": key, "datatype": kinds[value.dtype], "shape": [-1, *value.shape[1:]]}
                for key, value in inputs.items()
            ],
            "outputs": [{"name": key, "datatype": "FP32", "shape": [-1, *shape]} for key, shape in outputs.items()],
        }
        folder = Path(root, name, "1")
        folder.mkdir(parents=True)
        torch.jit.save(made, str(folder / "model.pt"), _extra_files={"signature.json": json.dumps(described)})

    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4), nn.Softmax(1))
    write("mlp", mlp, {"x": torch.randn(2, 12)}, {"scores": [4]})
    cnn = Cnn()
    cnn.norm.running_mean.normal_()
    cnn.norm.running_var.uniform_(0.5, 2)
    write("cnn", cnn, {"image": torch.randn(2, 4, 12, 10)}, {"scores": [5]})
    write("fcn", Fcn(), {"image": torch.randn(2, 3, 8, 12)}, {"mask": [5, 8, 12]})
    write("lstm", Lstm(), {"x": torch.randn(2, 7, 6)}, {"steps": [7, 10], "scores": [3]})
    write("attention", Attention(), {"x": torch.randn(2, 6, 16)}, {"y": [6, 16]})
    write("branch", Branch(), {"x": torch.randn(2, 4)}, {"y": [3]}, script=True)
    write("loop", Loop(), {"x": torch.randn(2, 4)}, {"y": [4]}, script=True)
    multi = {"tokens": torch.randint(0, 10, (2, 5)), "features": torch.randn(2, 3)}
    write("multi", Multi(), multi, {"onset": [4], "note": [4]})
    write("passing", Passing(), {"x": torch.randn(2, 3)}, {"same": [3], "other": [3]})
    names = {"serving:in/b:0": torch.randn(2, 4), "serving:in/a:0": torch.randn(2, 4)}
    write("names", Names(), names, {"out/y:0": [3]})
    write("long", Long(), {"x": torch.randn(2, 3, 320)}, {"y": [5, 320]})


if __name__ == "__main__":
    main(sys.argv[1])
