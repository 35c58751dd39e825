"""Runs a model in FP32 where it computes in FP16 or BF16, whatever its graph says: what an export is compared with."""

import functools
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from .dtypes import NARROW

# PyTorch only stores numbers in these, and computes with them in others.
_STORED = (torch.float8_e4m3fn, torch.float8_e5m2)


class InFp32(TorchDispatchMode):
    """Gives FP32 to each operator in place of FP16 and BF16. unrounded: what was rounded to a tensor of FP8."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.unrounded = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(_widened, (args, kwargs or {}))
        if isinstance(operator, HigherOrderOperator):  # such as cond, whose branches are arguments
            args, kwargs = tree_map(self._within, (args, kwargs))
        if operator is torch.ops.aten._local_scalar_dense.default and not isinstance(args[0], torch.Tensor):
            return args[0]  # PyTorch itself passes the numbers in a traced graph as Python's
        if operator is torch.ops.aten.equal.default and not isinstance(args[0], torch.Tensor):
            return args[0] == args[1]  # likewise, when it looks for numbers that are in the graph twice
        result = operator(*args, **kwargs)
        stored = [each for each in tree_leaves(result) if getattr(each, "dtype", None) in _STORED]
        if stored:
            self._keep_unrounded(operator, args, kwargs, stored)
        return result

    def _within(self, value: Any) -> Any:
        """Return a function that runs in this mode, too, which PyTorch leaves for the operator that calls it."""
        if not callable(value):
            return value

        def call(*args: Any) -> Any:
            with self:
                return value(*args)

        return call

    def _keep_unrounded(self, operator: Any, args: Any, kwargs: Any, stored: List[torch.Tensor]) -> None:
        """Note what was rounded to these results, or moved there, as by a reshape."""
        if operator is torch.ops.aten._to_copy.default and args[0].dtype not in _STORED:
            found = [args[0]]
        elif any(isinstance(each, torch.Tensor) and each in self.unrounded for each in tree_leaves((args, kwargs))):
            moved = operator(*tree_map(self._precise, args), **tree_map(self._precise, kwargs))
            found = [each for each in tree_leaves(moved) if isinstance(each, torch.Tensor)]
        else:
            return
        for result, precise in zip(stored, found):
            if precise.dtype not in _STORED:
                self.unrounded[result] = precise

    def _precise(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype not in _STORED:
            return value
        return self.unrounded.get(value, value.float())


def in_fp32(call: Callable[[List[Any]], Any], module: torch.nn.Module) -> Callable[[List[Any]], Any]:
    """Return the call in FP32, whose outputs are not rounded to FP16, BF16 or FP8. Widens the module's own tensors.

    From then on, conversions copy in this whole process.
    """
    _copying_conversions()
    module._apply(_widened)  # operators that write to them in place must find them in FP32 already

    def call_in_fp32(values: List[Any]) -> Any:
        with torch.no_grad(), InFp32() as mode:
            result = call([_widened(value) for value in values])
        return tree_map(lambda each: mode.unrounded.get(each, each) if isinstance(each, torch.Tensor) else each, result)

    return call_in_fp32


@functools.lru_cache(maxsize=None)
def _copying_conversions() -> Any:
    """Have conversions copy, as those from FP16 to FP32 do: where both are FP32, PyTorch would return the same tensor,
    and an operator that writes to the result would change what was converted, too.
    """
    library = torch.library.Library("aten", "IMPL")
    for name, convert in _CONVERSIONS.items():
        library.impl("to." + name, convert, "CompositeImplicitAutograd", allow_override=True)
    return library  # which PyTorch needs as long as the conversions are in use


def _copied(tensor: torch.Tensor, more: Sequence[Any] = (), **options: Any) -> torch.Tensor:
    """more: non_blocking, copy and memory_format, as far as they are given."""
    return torch.ops.aten._to_copy(tensor, memory_format=more[2] if len(more) > 2 else None, **options)


_CONVERSIONS: Dict[str, Callable[..., torch.Tensor]] = {
    "dtype": lambda tensor, dtype, *more: _copied(tensor, more, dtype=dtype),
    "device": lambda tensor, device, dtype, *more: _copied(tensor, more, device=device, dtype=dtype),
    "other": lambda tensor, other, *more: _copied(tensor, more, device=other.device, dtype=other.dtype),
    "dtype_layout": lambda tensor, **given: _copied(
        tensor,
        (None, None, given.pop("memory_format", None)),
        **{name: value for name, value in given.items() if name in ("dtype", "layout", "device")},
    ),
}


def _widened(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in NARROW else value
    return torch.float32 if isinstance(value, torch.dtype) and value in NARROW else value
