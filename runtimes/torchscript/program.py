"""What runs once a PyTorch model is loaded, whichever of the two forms it came in.

Outputs are named by the keys of a dict or the fields of a NamedTuple; those of a tuple or list,
and a lone one, are OUTPUT__0, OUTPUT__1, … or as declared, by position. Numbers and strings that the
model takes or gives beside tensors are arrays of rank 0. What cannot be served (None, complex numbers,
values nested deeper) is left out of an answer, unless a request asks for it by name.
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
    Model,
    Signature,
    TensorSpec,
    Unsupported,
    datatype_of,
    first_line,
    unnamed_outputs,
)
from runtimes.redaction import redacted

SCALARS = {"INT64": int, "FP64": float, "BOOL": bool, "BYTES": bytes.decode}
# What PyTorch raises when a model is called. torch.OutOfMemoryError is a RuntimeError.
ERRORS = (RuntimeError, torch.jit.Error, AssertionError, IndexError, KeyError, TypeError, ValueError)
# What PyTorch says of a model that cannot run in inference mode: it computes gradients inside, or the fast path for
# attention, which PyTorch takes in that mode alone, gives an undefined tensor in the place of None.
_NEEDS_AUTOGRAD = re.compile(
    r"does not require grad|inference tensor|on an undefined Tensor|cannot be saved for backward", re.IGNORECASE
)
# What no inputs can mend: the model wants a device, or a kernel, that is not there.
_MODELS_FAULT = re.compile(
    r"Could not run '\S+' with arguments from the|not compiled with (CUDA|CuDNN)|Found no NVIDIA driver|No CUDA GPUs|"
    r"Expected all tensors to be on the same device|not implemented for 'meta'|not linked with support for|"
    r"Cannot initialize \w+ without|Cannot copy out of meta tensor|is not on the expected device|NoQEngine"
)
# A kernel that lacks a type: the inputs' fault only where they are of it.
_NO_KERNEL = re.compile(r"not implemented for '(\w+)'")
_NO_MEMORY = re.compile(r"can't allocate memory|out of memory|_STATUS_ALLOC_FAILED", re.IGNORECASE)


class Program(NamedTuple):
    """What the two forms give.

    call     takes one value per argument, in order
    scalars  for each argument: whether it is a Python number or string rather than a tensor
    names    the outputs' names where a tuple, a list or one value is returned, by position
    pure     nothing in the model writes to a tensor in place or keeps one from call to call
    module   what `call` calls, for whoever changes it as a whole
    widen    applied to the named outputs; None: they are as they should be
    analyse  gives what the graph says about batching
    ranges   gives what it says about the numbers in inputs
    """

    call: Callable[[List[Any]], Any]
    scalars: List[bool]
    signature: Signature
    names: List[str]
    pure: bool
    module: torch.nn.Module
    widen: Optional[Callable[[Dict[str, Any]], Dict[str, Any]]] = None
    analyse: Callable[[], Optional[BatchAnalysis]] = lambda: None
    ranges: Callable[[], Dict[str, InputRange]] = dict


class TorchModel(Model):
    """`pure` decides about copies. A pure model reads the request's own bytes and its answer is
    not copied either. Another could write into the request, which must stay as it is for a second
    try, keep a view of it after its memory is used again, or change an answer on its way out; so
    its inputs and outputs are copied.
    """

    def __init__(self, program: Program, inference_mode: Optional[bool] = None) -> None:
        """inference_mode: whether models run in PyTorch's inference mode. None: until one shows that it cannot."""
        self._program = program
        self._inference, self._may_switch = inference_mode is not False, inference_mode is None
        self._names = [spec.name for spec in program.signature.outputs]
        self.signatures = {"default": program.signature}

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        return self._program.analyse()

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return self._program.ranges()

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        values = self._values(inputs)
        try:
            with self._mode():
                return self._arrays(self._call(self._program.call, values, outputs), outputs)
        except ERRORS as error:
            if not self._switches(error):
                raise self._translated(error, values) from error
        return self.infer(inputs, outputs, signature)

    def _mode(self) -> Any:
        return torch.inference_mode(self._inference)

    def _switches(self, error: BaseException) -> bool:
        """Whether the model fails because of inference mode, which is left for good then."""
        if not (self._inference and self._may_switch and _NEEDS_AUTOGRAD.search(str(error))):
            return False
        print("this model runs without inference mode from now on: " + sentence(error))
        self._inference = False
        return True

    def _translated(self, error: BaseException, values: Sequence[Any]) -> Exception:
        if self._inference and _NEEDS_AUTOGRAD.search(str(error)):
            return RuntimeError("%s; without inference_mode = true in [parameters], it may work" % sentence(error))
        return translated(error, values)

    def _values(self, inputs: Dict[str, np.ndarray]) -> List[Any]:
        """One for each argument."""
        specs = self._program.signature.inputs
        return [self._value(spec, inputs, scalar) for spec, scalar in zip(specs, self._program.scalars)]

    def _call(self, call: Callable[[List[Any]], Any], values: List[Any], outputs: Sequence[str]) -> Dict[str, Any]:
        """The wanted outputs by name."""
        named = self._name(call(values))
        if self._program.widen is not None:
            named = self._program.widen(named)
        self._check_names(named, outputs)
        wanted = outputs or self._names or list(named)
        return {name: value for name, value in named.items() if name in wanted}

    def _value(self, spec: TensorSpec, inputs: Dict[str, np.ndarray], scalar: bool) -> Any:
        # What a script was declared to take is checked too: PyTorch would compute something else.
        if scalar:
            array = check_input(spec._replace(shape=None), inputs)
            if array.size != 1:
                raise InvalidInput("input '%s' has %d elements, expected one" % (spec.name, array.size))
            try:
                return SCALARS[spec.datatype](array.reshape(-1)[0])
            except UnicodeDecodeError:
                raise InvalidInput(
                    "input '%s' has a string that is not UTF-8, which PyTorch needs" % spec.name
                ) from None
        array = check_input(spec, inputs)
        if array.dtype == object:
            raise InvalidInput("input '%s' holds strings, but PyTorch has no tensors of strings" % spec.name)
        array = np.ascontiguousarray(array).reshape(array.shape)  # torch knows no negative strides
        return self._tensor(array)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array if self._program.pure else array.copy())

    def _name(self, result: Any) -> Dict[str, Any]:
        if isinstance(result, dict):
            return {str(name): value for name, value in result.items()}
        if hasattr(result, "_asdict"):
            return dict(result._asdict())
        names, values = self._program.names, list(result) if isinstance(result, (tuple, list)) else [result]
        return dict(zip(names + unnamed_outputs(len(values))[len(names) :], values))

    def _check_names(self, named: Dict[str, Any], outputs: Sequence[str]) -> None:
        for name in outputs:
            if name not in named:
                raise InvalidInput("the model gave no output '%s'; it gave %s" % (name, quoted(named)))
        for name in self._names:
            if name not in named:
                raise Unsupported("output '%s' is declared, but the model gave only %s" % (name, quoted(named)))

    def _arrays(self, named: Dict[str, Any], outputs: Sequence[str]) -> Dict[str, np.ndarray]:
        """What of an answer can be served. Raises Unsupported where that is not all of what was asked for by name."""
        arrays: Dict[str, np.ndarray] = {}
        lasting, reasons = {}, []
        for name, value in named.items():
            reason = unservable(value)
            if not reason:
                arrays[name] = self._array(value)
                continue
            reasons.append("output '%s' cannot be served: %s" % (name, reason))
            if value is not None:  # which may be a tensor the next time
                lasting[name] = reason
        if reasons and (outputs or not arrays):
            raise Unsupported(reasons[0])
        known = self.signatures["default"]
        if lasting and not set(lasting) <= set(known.refused):
            kept = tuple(spec for spec in known.outputs if spec.name not in lasting)
            self.signatures["default"] = known._replace(outputs=kept, refused={**known.refused, **lasting})
        return arrays

    def _array(self, value: Any) -> np.ndarray:
        if isinstance(value, (bool, int, float)):
            return np.asarray(value)
        if isinstance(value, str):
            return np.asarray(value.encode(), dtype=object)
        array = value.detach().cpu().numpy()
        return array if self._program.pure else array.copy()


def unservable(value: Any) -> str:
    """Why an output cannot be served; empty if it can."""
    if isinstance(value, (bool, int, float, str)):
        return ""
    if value is None:
        return "it is None for these inputs"
    if not isinstance(value, torch.Tensor):
        return "it is a %s; only tensors, numbers and strings are served" % type(value).__name__
    if value.is_nested or value.layout != torch.strided:
        return "it is a %s tensor, which the protocol lacks" % ("nested" if value.is_nested else "sparse")
    return datatype_problem(value.dtype)


def datatype_problem(dtype: torch.dtype) -> str:
    """Why tensors of this type cannot be served; empty if they can."""
    try:
        datatype_of(torch.empty(0, dtype=dtype).numpy().dtype)
    except (TypeError, KeyError, RuntimeError):
        return "it is %s, which the protocol lacks" % str(dtype).replace("torch.", "")
    return ""


def translated(error: BaseException, values: Sequence[Any] = ()) -> Exception:
    """What the contract calls an exception of PyTorch's. values: what the model was called with."""
    said = str(error)
    if isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY.search(said):
        return MemoryError(first_line(error))
    if is_device_lost(said):
        return DeviceLost(first_line(error))
    lacking = _NO_KERNEL.search(said)
    if lacking and lacking[1] not in [_type_name(value) for value in values]:
        return RuntimeError(sentence(error))
    if "CUDA error" in said or _MODELS_FAULT.search(said):
        return RuntimeError(sentence(error))
    return InvalidInput(sentence(error))


def _type_name(value: Any) -> str:
    """What PyTorch's kernels call a tensor's type: Float, Half, Long, …"""
    return value.type().rsplit(".", 1)[-1][: -len("Tensor")] if isinstance(value, torch.Tensor) else ""


def sentence(error: BaseException) -> str:
    """What of PyTorch's message a client can use.

    TorchScript puts tracebacks of its own first and the reason last, after the exception's name.
    """
    text = str(error)
    reasons = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception): (.*)$", text, re.MULTILINE)
    line = reasons[-1].strip() if "Traceback of TorchScript" in text and reasons else first_line(error)
    if line.startswith("AssertionError:") or not line:
        line = line[len("AssertionError:") :].strip() or "the model's own check of its inputs failed"
    line = re.sub(r"^Guard failed: ", "the exported program needs ", line)
    line = re.sub(r"^KeyError: ", "the model has no entry for ", line)
    line = line.split(" This is an internal miniz error", 1)[0]
    return plain(redacted(line))
