"""CNTK v2 models (.model, .dnn, .cmf), run by CNTK 2.7.

Names are those of the model's arguments and outputs. A variable without a unique name is called by its uid. Shapes are
those of CNTK's Python API, preceded by the dynamic axes: [batch, …], or [batch, time, …] for sequences. All sequences
of a request have the same length. Sparse inputs are refused.

CNTK's functions are not thread-safe. A worker has a single thread.
"""

import re
import warnings
from collections import Counter
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from runtimes.checks import check_input, declared_inputs, declared_outputs, known_parameters, wanted_outputs
from runtimes.contract import (
    BatchAnalysis,
    InputRange,
    InvalidInput,
    LoadError,
    LoadOptions,
    Model,
    Signature,
    TensorSpec,
    Unsupported,
    datatype_of,
    first_line,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about an unknown Linux distribution, and about missing GPUs
    import cntk

    from .analysis import analyze
    from .ranges import input_ranges
    from .unsafe import Lookups

_NODE = re.compile(r"^Node '[^']*' \([^)]*\): ")


def load(options: LoadOptions) -> "CntkModel":
    known_parameters(options.parameters, ())
    try:
        function = cntk.Function.load(options.artifact, device=cntk.device.cpu())
    except Exception as error:
        raise LoadError("CNTK cannot load this model: %s" % _client_message(error)) from error
    return CntkModel(function, options)


class CntkModel(Model):
    def __init__(self, function: Any, options: LoadOptions) -> None:
        self.function = function
        self.options = options  # with which a profile loads the artifact again
        self._arguments = _named(function.arguments, "input", {})
        self._results = _named(function.outputs, "output", self._arguments)
        for name, variable in self._arguments.items():
            if variable.is_sparse:
                raise LoadError(
                    "input '%s' is sparse, and only dense inputs are supported: in CNTK, save a clone of the model "
                    "with a dense input instead; if the model is a loss, save the network below it, without the labels"
                    % name
                )
        inputs = tuple(_spec(name, variable) for name, variable in self._arguments.items())
        outputs = tuple(_spec(name, variable) for name, variable in self._results.items())
        self.signatures = {
            "default": Signature(declared_inputs(options.inputs, inputs), declared_outputs(options.outputs, outputs))
        }
        self._lookups = Lookups(function)
        # With dynamic sizes, a RuntimeError of CNTK can mean that a request's sizes do not fit the model.
        self._has_dynamic_sizes = any(-1 in (spec.shape or ())[1:] for spec in inputs)

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        return analyze(self.function, self._arguments, self._results)

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return input_ranges(self.function, self._arguments)

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        names = wanted_outputs(outputs, list(self._results))
        arrays = {spec.name: check_input(spec, inputs) for spec in self.signatures["default"].inputs}
        empty = [name for name, array in arrays.items() if not array.size]
        if empty:
            raise InvalidInput("input '%s' is empty, which CNTK does not support" % empty[0])
        feed = {self._arguments[name]: _value(self._arguments[name], array) for name, array in arrays.items()}
        variables = [self._results[name] for name in names]
        try:
            self._lookups.check(feed)
            results = self.function.eval(feed, outputs=variables)
        except ValueError as error:
            raise InvalidInput(_client_message(error)) from error
        except RuntimeError as error:
            message = _client_message(error)  # without the call stack, in which "alloc" is part of function names
            if re.search(r"alloc|out of memory", message, re.IGNORECASE):
                raise MemoryError(message) from error
            if self._has_dynamic_sizes:
                raise InvalidInput(message) from error
            raise
        if len(names) == 1:
            results = {variables[0]: results}
        return {name: _array(name, results[variable]) for name, variable in zip(names, variables)}


def _named(variables: Sequence[Any], kind: str, taken: Dict[str, Any]) -> Dict[str, Any]:
    """Return variables by name, or by uid if the name is empty, not unique, or belongs to another one in `taken`."""
    if not variables:
        raise LoadError("the model has no %ss" % kind)
    counts = Counter(variable.name for variable in variables)
    free = [v.name and counts[v.name] == 1 and taken.get(v.name, v).uid == v.uid for v in variables]
    return {v.name if is_free else v.uid: v for is_free, v in zip(free, variables)}


def _spec(name: str, variable: Any) -> TensorSpec:
    try:
        datatype = datatype_of(variable.dtype)
    except (KeyError, TypeError):
        raise LoadError("'%s' has a datatype that cannot be served: %s" % (name, variable.dtype)) from None
    # CNTK's free and inferred sizes are negative.
    sizes = tuple(size if size >= 0 else -1 for size in variable.shape)
    return TensorSpec(name, datatype, (-1,) * len(variable.dynamic_axes) + sizes)


def _value(variable: Any, array: np.ndarray) -> Any:
    """Convert an input for CNTK: sequences are a list with one array per row, anything else is one array."""
    array = np.ascontiguousarray(array)
    return list(array) if len(variable.dynamic_axes) > 1 else array


def _array(name: str, result: Any) -> np.ndarray:
    if isinstance(result, np.ndarray):
        return result
    rows: List[np.ndarray] = [np.asarray(row) for row in result]
    if len({row.shape for row in rows}) > 1:
        raise Unsupported("the sequences of output '%s' have different lengths: send one row at a time" % name)
    return np.stack(rows)


def _client_message(error: BaseException) -> str:
    """Return CNTK's message without the call stack and the node's name."""
    return _NODE.sub("", first_line(error))
