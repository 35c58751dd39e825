#!/usr/bin/env bash
# ExecuTorch 1.5.1: a Linear in BF16 with a bias adds its products up in BF16, one after another, so that a sum stops
# growing at 256 times its terms: 1,024 ones make 256. The same layer without a bias is right, in ExecuTorch, and so are
# both in PyTorch, which add up in FP32. With random numbers, a layer with 1,024 inputs errs more than ten times as much
# as PyTorch's. Nothing warns, when the program is converted or when it runs.
#
# Seen: 1024.0 without a bias; 256.0 with a bias of zero, where PyTorch answers 1024.0; errors 20 times as large.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 flatbuffers==25.12.19 ruamel.yaml==0.19.1 \
  tabulate==0.10.0 torchao==0.18.0 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
"$folder/venv/bin/pip" install --quiet --no-deps executorch==1.5.1 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
cd "$folder"
cat >sums.py <<'PYTHON'
import torch
from executorch.exir import to_edge_transform_and_lower
from executorch.extension.pybindings import _C

BF16 = torch.bfloat16


def executed(layer, x):
    program = to_edge_transform_and_lower(torch.export.export(layer, (x,))).to_executorch()
    return _C._load_for_executorch_from_buffer(program.buffer).forward([x])[0]


def ones(bias):
    layer = torch.nn.Linear(1024, 1, bias=bias).to(BF16)
    torch.nn.init.ones_(layer.weight)
    if bias:
        torch.nn.init.zeros_(layer.bias)
    x = torch.ones(1, 1024, dtype=BF16)
    return layer(x).item(), executed(layer, x).item()


without, with_bias = ones(False), ones(True)
print("PyTorch and ExecuTorch, without a bias", without, "and with one", with_bias)
assert without == (1024.0, 1024.0), without
assert with_bias == (1024.0, 256.0), with_bias

torch.manual_seed(0)
layer, x = torch.nn.Linear(1024, 64).to(BF16), torch.randn(8, 1024).to(BF16)
exact = torch.nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double())
errors = [(y.double() - exact).square().mean().sqrt().item() for y in (layer(x), executed(layer, x))]
print("errors of both with random numbers", errors)
assert errors[1] > 10 * errors[0], errors
PYTHON
venv/bin/python -W ignore sums.py 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
