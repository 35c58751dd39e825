"""ExecuTorch programs (.pte), run by the portable kernels and the backends of its wheel, such as XNNPACK.

Each method is a signature; `forward` is the default. The file records datatypes and sizes, but no names: inputs are
INPUT__0, …, and outputs OUTPUT__0, …, unless model.toml declares as many, in their order, or modelport has exported the
program, which then has a method that returns names and dynamic sizes (interface.py). Dynamic sizes have an upper bound,
for which memory is planned.

What a method writes to buffers of its own would be seen by later requests, so such a method is loaded for each of them.
"""

import re
import warnings
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from executorch.extension.pybindings import _C

from runtimes.checks import check_input, declared_inputs, declared_outputs, known_parameters, quoted, wanted_outputs
from runtimes.contract import BatchAnalysis, InvalidInput, LoadError, LoadOptions, Model, Signature, numpy_dtype

from .interface import Interface, dynamic_sizes, interfaces
from .program import Method, read_methods

# Arrays of requests are not writable, which matters only to a method that writes to its inputs: it gets copies.
warnings.filterwarnings("ignore", "The given NumPy array is not writable")
_OUT_OF_MEMORY = ("0x21", "0x25")


def load(options: LoadOptions) -> "ExecuTorchModel":
    known_parameters(options.parameters, [])
    if options.device != "cpu":
        raise LoadError("ExecuTorch is only supported on the CPU: 'device' in model.toml must be \"cpu\"")
    with open(options.artifact, "rb") as file:
        content = file.read()
    methods = read_methods(content)
    _C._unsafe_reset_threadpool(options.threads)
    served: Dict[str, Interface] = {}
    problems: Dict[str, str] = {}
    known = interfaces(methods, options)
    for name, interface in known.items():
        problem = _missing(methods[name]) or interface.problem
        if not problem:
            try:
                served[name] = dynamic_sizes(interface, lambda: Program(content))
            except RuntimeError as error:
                problem = "ExecuTorch cannot load it (error %s)" % error_code(error)
        problems[name] = problem
    if not served:
        raise LoadError("no method can be served: %s" % (next(iter(problems.values()), "") or "the file has none"))
    for name, problem in problems.items():
        if problem:
            print("the method '%s' is not served: %s" % (name, problem))
    return ExecuTorchModel(content, {name: methods[name] for name in served}, served, options)


def _missing(method: Method) -> str:
    """Return what this build of ExecuTorch lacks of a method; "" if nothing."""
    backends = sorted(set(method.backends) - set(_C._get_registered_backend_names()))
    if backends:
        has = quoted(sorted(_C._get_registered_backend_names()))
        return "it needs the backend %s, and this ExecuTorch has %s" % (quoted(backends), has)
    known = set(_C._get_operator_names())
    operators = sorted({name.rstrip(".") for name in method.operators} - known)
    return "it needs the operators %s, which this ExecuTorch lacks" % quoted(operators) if operators else ""


def error_code(error: BaseException) -> str:
    found = re.search(r"0x[0-9a-fA-F]+", str(error))
    return found.group() if found else "without a number"


class Program:
    """A loaded program. ExecuTorch refers to its bytes, and does not keep them."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        how = _C.Verification.InternalConsistency
        self._module = _C._load_for_executorch_from_buffer(content, program_verification=how)

    def run(self, method: str, inputs: Sequence[torch.Tensor]) -> List[Any]:
        return list(self._module.run_method(method, tuple(inputs), clone_outputs=True))


class ExecuTorchModel(Model):
    def __init__(
        self, content: bytes, methods: Dict[str, Method], served: Dict[str, Interface], options: LoadOptions
    ) -> None:
        self._content, self._methods, self._interfaces = content, methods, served
        self._program = Program(content)
        self.signatures = {
            name: Signature(
                declared_inputs(options.inputs if not index else (), interface.inputs),
                declared_outputs(options.outputs if not index else (), interface.served_outputs),
                interface.refused,
            )
            for index, (name, interface) in enumerate(served.items())
        }

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        method, bounds = self._methods[signature], self._interfaces[signature].bounds
        rows = [bound[0] for spec, bound in zip(self.signatures[signature].inputs, bounds) if spec.shape and bound]
        random = [name for name in method.operators if "rand" in name or "dropout" in name]
        return BatchAnalysis(
            unknown=("its operators are not followed",),
            max_rows=min(rows) if rows else None,
            alone="it writes to its own buffers" if method.keeps_state else "",
            random="%s is random" % random[0] if random else "",
        )

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        name = signature or next(iter(self.signatures))
        if name not in self.signatures:
            raise InvalidInput("the model has no method '%s'" % name)
        served, interface = self.signatures[name], self._interfaces[name]
        names = wanted_outputs(outputs, [spec.name for spec in served.outputs])
        arrays = [check_input(spec, inputs) for spec in served.inputs]
        for spec, array, bound in zip(served.inputs, arrays, interface.bounds):
            if any(size > most for size, most in zip(array.shape, bound)):
                raise InvalidInput(
                    "input '%s' has shape %s, but the model was exported for sizes up to %s"
                    % (spec.name, list(array.shape), list(bound))
                )
        stateful = self._methods[name].keeps_state
        program = Program(self._content) if stateful else self._program
        tensors = [_tensor(array.copy() if stateful else np.ascontiguousarray(array)) for array in arrays]
        try:
            results = program.run(name, tensors)
        except RuntimeError as error:
            code = error_code(error)
            if code in _OUT_OF_MEMORY:
                raise MemoryError("ExecuTorch is out of memory (error %s)" % code) from error
            raise InvalidInput(
                "the model does not accept inputs of these shapes or values (ExecuTorch's error %s)" % code
            ) from error
        found = {spec.name: result for spec, result in zip(interface.outputs, results)}
        return {each: _array(found[each].detach()) for each in names}


def _tensor(array: np.ndarray) -> torch.Tensor:
    if array.dtype.name == "bfloat16":  # which numpy lacks
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _array(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(numpy_dtype("BF16"))
    return tensor.numpy()
