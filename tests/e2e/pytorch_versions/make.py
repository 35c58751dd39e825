"""Make the files of a folder beside this one: `PYTHON make.py FOLDER`, with the PyTorch that the folder is named after.

    2.6.0   Debian 13's python3-torch 2.6.0+dfsg-7, Python 3.13, x86-64
    2.7.1   the wheel from PyPI for Linux aarch64, which needs no CUDA, on Python 3.13 in qemu-user
    2.8.0   the same
    2.14.1  Debian's python3-torch 2.14.1+dfsg-1, Python 3.14, x86-64

program.pt2 is a program of torch.export with free rows, a buffer, and a tuple in a dict as its result. script.pt is the
same network as TorchScript, with the result as a tuple. expected.json has inputs and the answer of the module itself.
"""

import json
import sys
from pathlib import Path

import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.last = torch.nn.Linear(8, 3)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x, ids):
        y = self.last(torch.relu(self.norm(self.first(x)))) * self.scale
        return {"scores": torch.softmax(y, 1), "parts": (y, ids + 1)}


class Scripted(Net):
    def forward(self, x, ids):
        y = self.last(torch.relu(self.norm(self.first(x)))) * self.scale
        return torch.softmax(y, 1), ids + 1


def main(folder):
    folder.mkdir(exist_ok=True)
    torch.manual_seed(3)
    net = Net().eval()
    x, ids, rows = torch.linspace(-2, 2, 8).reshape(2, 4), torch.arange(4).reshape(2, 2), torch.export.Dim("rows")
    free = {"x": {0: rows}, "ids": {0: rows}}
    torch.export.save(torch.export.export(net, (x, ids), dynamic_shapes=free, strict=False), folder / "program.pt2")
    scripted = Scripted().eval()
    scripted.load_state_dict(net.state_dict())
    torch.jit.script(scripted).save(str(folder / "script.pt"))
    with torch.no_grad():
        answer = net(x, ids)
    first, second = answer["parts"]
    values = {"x": x, "ids": ids, "scores": answer["scores"], "parts_0": first, "parts_1": second}
    text = json.dumps({name: value.tolist() for name, value in values.items()}, indent=1)
    (folder / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    print(torch.__version__, sys.version)
    main(Path(sys.argv[1]))
