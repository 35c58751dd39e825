"""Make small ExecuTorch programs, each with a case: `PYTHON executorch.py FOLDER`, in the runtime's environment.

PyTorch itself computes the expected values.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.pop(0)  # this file has the name of the package
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch.export import Dim, export

warnings.simplefilter("ignore")


class Dense(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.other = torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)

    def forward(self, x):
        return torch.softmax(self.other(torch.relu(self.layer(x))), -1)


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen.add_(1)
        return x + self.seen


class Table(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(10, 3)

    def forward(self, ids):
        return self.table(ids)


class Several(torch.nn.Module):
    def forward(self, x):
        return {"half": x.to(torch.bfloat16), "count": x.to(torch.int64) + 1}


def lowered(program, xnnpack=False):
    return to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()] if xnnpack else []).to_executorch()


def write(root, name, content, case, **arrays):
    folder = Path(root, name)
    folder.mkdir(parents=True)
    (folder / "model.pte").write_bytes(content)
    for each, array in arrays.items():
        np.savez(folder / f"{each}.npz", **array)
    case = {"artifact": "model.pte", **case, **{each: f"{each}.npz" for each in arrays}}
    (folder / "case.json").write_text(json.dumps(case))


def main(root):
    torch.manual_seed(21)
    rows = {0: Dim("rows", min=1, max=16)}
    x, dense = torch.randn(2, 4), Dense().eval()
    with torch.no_grad():
        given, expected = {"INPUT__0": x.numpy()}, {"OUTPUT__0": dense(x).numpy()}
    shape = {"inputs": [["INPUT__0", "FP32", [-1, 4]]], "outputs": [["OUTPUT__0", "FP32", [-1, 2]]]}
    bad = [{"INPUT__0": [[0.0, 0, 0]]}, {"INPUT__0": [[0.0, 0, 0, 0]] * 17}]
    for name, xnnpack in (("dense", False), ("xnnpack", True)):
        content = lowered(export(dense, (x,), dynamic_shapes=(rows,)), xnnpack).buffer
        case = {"expected_signature": shape, "bad": bad}
        write(root, name, content, case, inputs=given, expected=expected)
    program = lowered(export(Counter(), (torch.zeros(2, 2),)))
    answer = {"values": {"INPUT__0": [[0.0, 1], [2, 3]]}, "expected_values": {"OUTPUT__0": [[1, 2], [3, 4]]}}
    write(root, "state", program.buffer, {**answer, "not_batchable": True})
    methods = {"forward": export(Several(), (x,)), "embed": export(Table().eval(), (torch.zeros(2, 1).long(),))}
    program = to_edge_transform_and_lower(methods, constant_methods={"version": 7}).to_executorch()
    outputs = [["OUTPUT__0", "BF16", [2, 4]], ["OUTPUT__1", "INT64", [2, 4]]]
    write(root, "methods", program.buffer, {"expected_signature": {"outputs": outputs}})
    with_table = {"signature": "embed", "values": {"INPUT__0": [[1], [9]]}, "bad": [{"INPUT__0": [[1], [10]]}]}
    write(root, "table", program.buffer, with_table)


if __name__ == "__main__":
    main(sys.argv[1])
