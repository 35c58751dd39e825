"""Runs a model in FP32 where it computes in BF16, whatever its graph says: what an export is compared with."""

from typing import Any, Callable, List, Tuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

# PyTorch only stores numbers in these, and computes with them in others.
_STORED = (torch.float8_e4m3fn, torch.float8_e5m2)


class _InFp32(TorchDispatchMode):
    """Gives FP32 to each operator in place of BF16. unrounded: what was rounded to a tensor of FP8."""

    def __init__(self) -> None:
        super().__init__()
        self.unrounded = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(_widened, (args, kwargs or {}))
        result = operator(*args, **kwargs)
        if operator is torch.ops.aten._to_copy.default and result.dtype in _STORED and args[0].dtype is torch.float32:
            self.unrounded[result] = args[0]
        return result


def in_fp32(call: Callable[[List[Any]], Any], module: torch.nn.Module) -> Callable[[List[Any]], Any]:
    """Return the call in FP32, with outputs that are not rounded to BF16 or FP8. Widens the module's own tensors."""
    module._apply(_widened)  # operators that write to them in place must find them in FP32 already

    def call_in_fp32(values: List[Any]) -> Any:
        with torch.no_grad(), _InFp32() as mode:
            result = call([_widened(value) for value in values])
        return tree_map(lambda each: mode.unrounded.get(each, each) if isinstance(each, torch.Tensor) else each, result)

    return call_in_fp32


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype is torch.bfloat16 else value
    return torch.float32 if value is torch.bfloat16 else value
