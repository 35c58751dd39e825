"""Half precision and channels-last, for a loaded model of either form.

    [parameters]
    precision = "half"      # or "bfloat16", "float"; absent: as it was saved
    channels_last = true

All parameters and buffers of the model get that precision, and its floating-point inputs on their
way in; what comes out gets the datatype that the signature tells, FP32 where it tells none. So a
client sees nothing of it but the error. A model that makes float32 tensors of its own, inside,
must be saved in the other precision instead: PyTorch refuses to mix them.
"""

from typing import Any, Dict, List

import torch

from runtimes.checks import parameter
from runtimes.contract import DATATYPES

from .program import Program

_DTYPES = {"float": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}
# PyTorch calls them as numpy does.
_FLOATS = {
    each.name: getattr(torch, each.dtype.name)
    for each in DATATYPES.values()
    if each.kind == "float" and each.dtype is not None
}


def applied(program: Program, parameters: Dict[str, Any]) -> Program:
    """The same program with what [parameters] ask for. Raises LoadError."""
    chosen = _DTYPES[parameter(parameters, "precision", list(_DTYPES))]
    dtype = chosen if "precision" in parameters else None
    if parameter(parameters, "channels_last", (False, True)):
        program = _with_channels_last(program)
    return program if dtype is None else _with_precision(program, dtype)


def _with_channels_last(program: Program) -> Program:
    program.module.to(memory_format=torch.channels_last)
    call = program.call

    def call_with(values: List[Any]) -> Any:
        return call([value.to(memory_format=torch.channels_last) if _is_image(value) else value for value in values])

    return program._replace(call=call_with)


def _is_image(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 4


def _with_precision(program: Program, dtype: torch.dtype) -> Program:
    program.module.to(dtype)
    call = program.call
    told = {spec.name: _FLOATS.get(spec.datatype, torch.float32) for spec in program.signature.outputs}

    def call_with(values: List[Any]) -> Any:
        return call([value.to(dtype) if _is_floating(value) else value for value in values])

    def widen(named: Dict[str, Any]) -> Dict[str, Any]:
        return {
            name: value.to(told.get(name, torch.float32)) if getattr(value, "dtype", None) is dtype else value
            for name, value in named.items()
        }

    return program._replace(call=call_with, widen=widen)


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
