"""Run models in FP32 as an export's proof does, in torchscript's environment. Print what does not match.

Each module is made twice from the same numbers: in FP16 or BF16, and in FP32, which is what the first one must compute.
Results in FP8 are compared before they were rounded. What converters make of TorchScript must round its result only.
"""

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from runtimes.contract import LoadError
from runtimes.torchscript.dtypes import NARROW
from runtimes.torchscript.fp32_program import in_fp32 as convert
from runtimes.torchscript.fp32_program import of_script
from runtimes.torchscript.fp32_reference import in_fp32

X = torch.arange(16).reshape(2, 8) / 7 - 1
STORED = (torch.float8_e4m3fn, torch.float8_e5m2)


class Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def stored(self, y: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return y.to(dtype) if y.dtype in NARROW else y


class Branches(Layer):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda x: self.layer(x) / 3, lambda x: self.layer(x) * 3, (x,))


class Repeats(Layer):
    def forward(self, x: torch.Tensor) -> Any:
        def step(count: torch.Tensor, x: torch.Tensor) -> Any:
            return count + 1, torch.tanh(self.layer(x))

        return torch.while_loop(lambda count, x: count < 3, step, (torch.tensor(0), x))[1]


class Numbers(Layer):
    """Numbers that a trace keeps as tensors."""

    def forward(self, x: torch.Tensor) -> Any:
        return (self.layer(x) * 0.1).masked_fill(x > 0, -3.0)


class Computed(Layer):
    """Numbers that TorchScript's converter computes itself."""

    def forward(self, x: torch.Tensor) -> Any:
        return torch.relu(self.layer(x)) * (torch.arange(1, 9, dtype=x.dtype) / 7).exp()


class Written(Layer):
    """Copies that a conversion makes, and that are written to."""

    def forward(self, x: torch.Tensor) -> Any:
        wide = x.float() if x.dtype in NARROW else x.clone()
        wide.mul_(1.05)
        back, like = wide.to(x.dtype) if x.dtype in NARROW else wide.clone(), wide.type_as(x).clone()
        back.add_(0.1)
        return torch.relu(x) + wide.to(x.dtype) + back + like


class Bits(torch.nn.Module):
    """Signs, read from the bits."""

    def forward(self, x: torch.Tensor) -> Any:
        return (x.view(torch.int16) < 0).any(-1)


class Moved(Layer):
    """FP8 that is moved after it was rounded."""

    def forward(self, x: torch.Tensor) -> Any:
        first, second = (self.stored(self.layer(x), dtype) for dtype in STORED)
        left, right = second.chunk(2, -1)
        return first.reshape(4, 4), first.t().contiguous()[1:], torch.stack([left, right])


def modules() -> Any:
    for kind, dtype in product((Branches, Repeats, Numbers, Computed, Written, Moved), NARROW):
        torch.manual_seed(0)
        module, x = kind().to(dtype), X.to(dtype)
        right = kind()
        right.load_state_dict(module.state_dict())
        for form in ("traced", "exported"):
            if form == "traced" and kind in (Branches, Repeats):
                continue
            found = (
                torch.jit.trace(module, (x,), check_trace=False)
                if form == "traced"
                else torch.export.export(module, (x,)).module()
            )
            yield f"{kind.__name__} {dtype} {form}", x, found, right(x.float())


def converted(kind: Any, dtype: torch.dtype, form: str) -> Any:
    """Return what a program for converters computes between inputs and outputs of `dtype`, and what is right."""
    torch.manual_seed(0)
    module, x = kind().to(dtype), X.to(dtype)
    right = kind()
    right.load_state_dict(module.state_dict())
    program = of_script(torch.jit.trace(module, (x,)), (x,)) if form == "traced" else torch.export.export(module, (x,))
    return convert(program, [x], {0: NARROW[dtype]}).module()(x), right(x.float()).to(dtype)


def refusal_of_bits(dtype: torch.dtype) -> str:
    program = torch.export.export(Bits(), (X.to(dtype),))
    try:
        convert(program, [X.to(dtype)], {0: "BOOL"})
    except LoadError as error:
        return str(error)
    return ""


wrong = {}
for dtype in NARROW:
    for kind, form in product((Computed, Written), ("traced", "exported")):
        try:
            found, expected = converted(kind, dtype, form)
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
        except Exception as error:
            wrong[f"converted {kind.__name__} {dtype} {form}"] = str(error)
    if "reads the bits of numbers" not in refusal_of_bits(dtype):
        wrong[f"bits {dtype}"] = "not refused"
for name, x, module, right in modules():
    try:
        call = in_fp32(lambda values, module=module: module(*values), module)
        for _ in range(2):  # TorchScript optimizes the graph after the first call
            torch.testing.assert_close(call([x]), right)
    except Exception as error:
        wrong[name] = str(error)
print(json.dumps(wrong))
