"""Runs a loaded PyTorch model of either form.

`names.py` names the outputs. Numbers and strings, as inputs and outputs, are arrays of rank 0, and lists of them arrays
of rank 1. An output that cannot be served (None, complex numbers) is left out, unless a request names it.
"""

import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch

from runtimes.checks import check_input, is_device_lost, plain, quoted
from runtimes.contract import (
    BatchAnalysis,
    DeviceLost,
    InputRange,
    InvalidInput,
    LoadError,
    LoadOptions,
    Model,
    Signature,
    TensorSpec,
    Unsupported,
    first_line,
)
from runtimes.redaction import reason_of, redacted

from .dtypes import datatype_of_tensors, to_array, to_tensor
from .fp32_reference import in_fp32

# What an argument is: a tensor, or a Python number or string, or a list of them.
TENSOR, SCALAR, LIST = "tensor", "scalar", "list"
SCALARS = {"INT64": int, "FP64": float, "BOOL": bool, "BYTES": bytes.decode}
# Exceptions that PyTorch raises when it calls a model. torch.OutOfMemoryError is a RuntimeError.
ERRORS = (RuntimeError, torch.jit.Error, AssertionError, IndexError, KeyError, TypeError, ValueError)
# Messages of PyTorch about a model that cannot run in inference mode. It computes gradients itself, or uses the fast
# path for attention, which exists only in that mode and returns an undefined tensor instead of None.
_NEEDS_AUTOGRAD = re.compile(
    r"does not require grad|inference tensor|on an undefined Tensor|cannot be saved for backward", re.IGNORECASE
)
# Errors that are not the inputs' fault: the model needs a device or a kernel that is missing.
_MODEL_ERRORS = re.compile(
    r"Could not run '\S+' with arguments from the|not compiled with (CUDA|CuDNN)|Found no NVIDIA driver|No CUDA GPUs|"
    r"Expected all tensors to be on the same device|not implemented for 'meta'|not linked with support for|"
    r"Cannot initialize \w+ without|Cannot copy out of meta tensor|is not on the expected device|NoQEngine"
)
# A kernel does not support a datatype, which is the inputs' fault only if one of them has it.
_NO_KERNEL = re.compile(r"not implemented for '(\w+)'")
_NO_MEMORY = re.compile(r"can't allocate memory|out of memory|_STATUS_ALLOC_FAILED", re.IGNORECASE)


class Program(NamedTuple):
    """A loaded model of either form.

    call     accepts one value for each input, in order; None for one that is left out
    kinds    what each value is: TENSOR, SCALAR or LIST
    name     returns the outputs in a result by name
    pure     whether the model never writes to a tensor in place, and keeps none from call to call
    module   the module that `call` calls, to convert it as a whole; None if there is only compiled code
    widen    converts the named outputs; None if they need no conversion
    analyze  returns what the graph shows about batching
    ranges   returns what the graph shows about the ranges of inputs
    """

    call: Callable[[List[Any]], Any]
    kinds: List[str]
    signature: Signature
    name: Callable[[Any], Dict[str, Any]]
    pure: bool
    module: Optional[torch.nn.Module]
    widen: Optional[Callable[[Dict[str, Any]], Dict[str, Any]]] = None
    analyze: Callable[[], Optional[BatchAnalysis]] = lambda: None
    ranges: Callable[[], Dict[str, InputRange]] = dict


class TorchModel(Model):
    """A model on the CPU.

    Inputs and outputs of a pure model are not copied. A model that is not pure could write into a request, which must
    stay unchanged because it may run again; keep a view of it after its memory has been reused; or change an answer
    that is being sent. So its inputs and outputs are copied.

    options  with which a profile loads the model again
    """

    options = LoadOptions("")

    def __init__(self, program: Program, inference_mode: Optional[bool] = None) -> None:
        """inference_mode: whether to use PyTorch's inference mode; None: until an error shows that the model cannot."""
        self.program = program
        self._inference_mode, self._may_leave_inference_mode = inference_mode is not False, inference_mode is None
        self._names = [spec.name for spec in program.signature.outputs]
        self.signatures = {"default": program.signature}

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        return self.program.analyze()

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return self.program.ranges()

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        values = self._values(inputs)
        try:
            with self._mode():
                return self._arrays(self._call(self.program.call, values, outputs), outputs)
        except ERRORS as error:
            if not self._leaves_inference_mode(error):
                raise self._to_contract_error(error, values) from error
        return self.infer(inputs, outputs, signature)

    def in_fp32(self) -> Model:
        program = self.program
        if program.module is None:
            raise LoadError("compiled code cannot compute in FP32 what it computes in another datatype")
        # Some operators cannot run step by step in inference mode.
        return TorchModel(program._replace(call=in_fp32(program.call, program.module), widen=None), False)

    def _mode(self) -> Any:
        return torch.inference_mode(self._inference_mode)

    def _leaves_inference_mode(self, error: BaseException) -> bool:
        """Return whether the model failed because of inference mode, which is then left for good."""
        if not (self._inference_mode and self._may_leave_inference_mode and _NEEDS_AUTOGRAD.search(str(error))):
            return False
        print("this model runs without inference mode from now on: " + client_message(error))
        self._inference_mode = False
        return True

    def _to_contract_error(self, error: BaseException, values: Sequence[Any]) -> Exception:
        if self._inference_mode and _NEEDS_AUTOGRAD.search(str(error)):
            return RuntimeError(
                "%s; without inference_mode = true in [parameters], it may work" % client_message(error)
            )
        return to_contract_error(error, values)

    def _values(self, inputs: Dict[str, np.ndarray]) -> List[Any]:
        """Return one value for each input; None for one that the request leaves out."""
        signature = self.program.signature
        return [
            None if spec.name in signature.optional and spec.name not in inputs else self._value(spec, inputs, kind)
            for spec, kind in zip(signature.inputs, self.program.kinds)
        ]

    def _call(self, call: Callable[[List[Any]], Any], values: List[Any], outputs: Sequence[str]) -> Dict[str, Any]:
        """Return the requested outputs by name."""
        named = self.program.name(call(values))
        if self.program.widen is not None:
            named = self.program.widen(named)
        self._check_names(named, outputs)
        requested = outputs or self._names or list(named)
        return {name: value for name, value in named.items() if name in requested}

    def _value(self, spec: TensorSpec, inputs: Dict[str, np.ndarray], kind: str) -> Any:
        # The declared datatypes and shapes of a script are checked here, because PyTorch would compute something else.
        if kind != TENSOR:
            array = check_input(spec._replace(shape=None), inputs)
            if kind == SCALAR and array.size != 1:
                raise InvalidInput("input '%s' has %d elements, expected one" % (spec.name, array.size))
            if kind == LIST and array.ndim != 1:
                raise InvalidInput(
                    "input '%s' has shape %s, expected a list, which has one dimension" % (spec.name, list(array.shape))
                )
            try:
                values = tuple(map(SCALARS[spec.datatype], array.reshape(-1)))
                return values if kind == LIST else values[0]
            except UnicodeDecodeError:
                raise InvalidInput(
                    "input '%s' has a string that is not UTF-8, which PyTorch needs" % spec.name
                ) from None
        array = check_input(spec, inputs)
        if array.dtype == object:
            raise InvalidInput("input '%s' contains strings, but PyTorch has no tensors of strings" % spec.name)
        array = np.ascontiguousarray(array).reshape(array.shape)  # tensors cannot have negative strides
        return self._tensor(array)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return to_tensor(array if self.program.pure else array.copy())

    def _check_names(self, named: Dict[str, Any], outputs: Sequence[str]) -> None:
        for name in outputs:
            if name not in named:
                raise InvalidInput("the model returned no output '%s'; it returned %s" % (name, quoted(named)))
        for name in self._names:
            if name not in named:
                raise Unsupported("output '%s' is declared, but the model returned only %s" % (name, quoted(named)))

    def _arrays(self, named: Dict[str, Any], outputs: Sequence[str]) -> Dict[str, np.ndarray]:
        """Return the outputs that can be served. Raises Unsupported if one cannot that the request names."""
        arrays: Dict[str, np.ndarray] = {}
        lasting, reasons = {}, []
        for name, value in named.items():
            reason = unservable(value)
            if not reason:
                arrays[name] = self._array(value)
                continue
            reasons.append("output '%s' cannot be served: %s" % (name, reason))
            if value is not None:  # it may be a tensor for other inputs
                lasting[name] = reason
        if reasons and (outputs or not arrays):
            raise Unsupported(reasons[0])
        signature = self.signatures["default"]
        if lasting and not set(lasting) <= set(signature.refused):
            kept = tuple(spec for spec in signature.outputs if spec.name not in lasting)
            self.signatures["default"] = signature._replace(outputs=kept, refused={**signature.refused, **lasting})
        return arrays

    def _array(self, value: Any) -> np.ndarray:
        if isinstance(value, (bool, int, float, np.ndarray)):
            return np.asarray(value)
        if isinstance(value, str):
            return np.asarray(value.encode(), dtype=object)
        array = to_array(value.detach().cpu())
        return array if self.program.pure else array.copy()


def unservable(value: Any) -> str:
    """Return why an output cannot be served, or "" if it can."""
    if isinstance(value, (bool, int, float, str, np.ndarray)):
        return ""
    if value is None:
        return "it is None for these inputs"
    if not isinstance(value, torch.Tensor):
        return "it is a %s; only tensors, numbers and strings are served" % type(value).__name__
    if value.is_nested or value.layout != torch.strided:
        return "it is a %s tensor, which the protocol lacks" % ("nested" if value.is_nested else "sparse")
    return datatype_problem(value.dtype)


def datatype_problem(dtype: torch.dtype) -> str:
    """Return why tensors of this type cannot be served, or "" if they can."""
    try:
        datatype_of_tensors(dtype)
    except (TypeError, KeyError, RuntimeError):
        return "it is %s, which the protocol lacks" % str(dtype).replace("torch.", "")
    return ""


def to_contract_error(error: BaseException, values: Sequence[Any] = ()) -> Exception:
    """Return PyTorch's exception as one of the contract. values: the arguments of the call."""
    message = str(error)
    if isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY.search(message):
        return MemoryError(first_line(error))
    if is_device_lost(message):
        return DeviceLost(first_line(error))
    missing_kernel = _NO_KERNEL.search(message)
    if missing_kernel and missing_kernel[1] not in [_type_name(value) for value in values]:
        return RuntimeError(client_message(error))
    if "CUDA error" in message or _MODEL_ERRORS.search(message):
        return RuntimeError(client_message(error))
    return InvalidInput(client_message(error))


def _type_name(value: Any) -> str:
    """Return the name of a tensor's type in messages of kernels: Float, Half, Long, …"""
    return value.type().rsplit(".", 1)[-1][: -len("Tensor")] if isinstance(value, torch.Tensor) else ""


def client_message(error: BaseException) -> str:
    """Return the part of PyTorch's message that a client can use.

    TorchScript's messages begin with its own tracebacks and end with the reason, after the name of the exception.
    """
    text = str(error)
    reasons = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception): (.*)$", text, re.MULTILINE)
    line = reasons[-1].strip() if "Traceback of TorchScript" in text and reasons else first_line(error)
    if line.startswith("AssertionError:") or not line:
        line = line[len("AssertionError:") :].strip() or "the model's own check of its inputs failed"
    line = re.sub(r"^Guard failed: ", "the exported program needs ", line)
    line = re.sub(r"^KeyError: ", "the model has no entry for ", line)
    line = line.split(" This is an internal miniz error", 1)[0]
    return plain(redacted(line) or reason_of(error))
