"""Half precision and channels-last, for loaded models of both forms.

    [parameters]
    precision = "half"      # or "bfloat16", "float"; absent: as it was saved
    channels_last = true

All parameters and buffers of the model are converted to that precision, and so are its floating-point inputs. Outputs
are converted back to the datatype in the signature, or FP32 if it has none. Clients notice only the numerical error.
A model that creates float32 tensors itself must be saved in the other precision instead, because PyTorch refuses to mix
the two.
"""

from typing import Any, Dict, List

import torch

from runtimes.checks import parameter
from runtimes.contract import LoadError

from .dtypes import FLOATS
from .program import Program

_DTYPES = {"float": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}


def apply_parameters(program: Program, parameters: Dict[str, Any]) -> Program:
    """Return the program with [parameters] applied. Raises LoadError for an invalid parameter."""
    if program.module is None and ("precision" in parameters or parameters.get("channels_last")):
        raise LoadError("'precision' and 'channels_last' cannot change compiled code: compile the model with them")
    chosen = _DTYPES[parameter(parameters, "precision", list(_DTYPES))]
    dtype = chosen if "precision" in parameters else None
    if parameter(parameters, "channels_last", (False, True)):
        program = _with_channels_last(program)
    return program if dtype is None else _with_precision(program, dtype)


def _with_channels_last(program: Program) -> Program:
    assert program.module is not None
    program.module.to(memory_format=torch.channels_last)
    call = program.call

    def call_with(values: List[Any]) -> Any:
        return call([value.to(memory_format=torch.channels_last) if _is_image(value) else value for value in values])

    return program._replace(call=call_with)


def _is_image(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 4


def _with_precision(program: Program, dtype: torch.dtype) -> Program:
    assert program.module is not None
    program.module.to(dtype)
    call = program.call
    declared = {spec.name: FLOATS.get(spec.datatype, torch.float32) for spec in program.signature.outputs}

    def call_with(values: List[Any]) -> Any:
        return call([value.to(dtype) if _is_floating(value) else value for value in values])

    def widen(named: Dict[str, Any]) -> Dict[str, Any]:
        return {
            name: value.to(declared.get(name, torch.float32)) if getattr(value, "dtype", None) is dtype else value
            for name, value in named.items()
        }

    return program._replace(call=call_with, widen=widen)


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
