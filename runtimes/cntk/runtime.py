"""CNTK v2 models (.model, .dnn, .cmf), run by CNTK 2.7 itself.

Names are those of the model's arguments and outputs; what has none is called by its uid. Shapes are
CNTK's own, as Python sees them, after the dimensions that CNTK calls dynamic axes: [batch, …], and
[batch, time, …] for sequences, of which all in one request are equally long. Sparse inputs are refused.

CNTK's functions must not be shared among threads; a worker has one.
"""

import re
import warnings
from collections import Counter
from typing import Any, Dict, Optional, Sequence

import numpy as np

from runtimes.checks import check_input, declared_inputs, declared_outputs, known_parameters, wanted_outputs
from runtimes.contract import (
    BatchAnalysis,
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
    warnings.simplefilter("ignore")  # of the distribution, and of cards that it does not find
    import cntk

    from .analysis import analyse
    from .unsafe import Lookups

_NODE = re.compile(r"^Node '[^']*' \([^)]*\): ")


def load(options: LoadOptions) -> Model:
    known_parameters(options.parameters, ())
    try:
        function = cntk.Function.load(options.artifact, device=cntk.device.cpu())
    except Exception as error:
        raise LoadError("CNTK cannot load this model: %s" % _sentence(error)) from error
    return CntkModel(function, options)


class CntkModel(Model):
    def __init__(self, function: Any, options: LoadOptions) -> None:
        self._function = function
        self._arguments = _named(function.arguments, "input", {})
        self._results = _named(function.outputs, "output", self._arguments)
        for name, variable in self._arguments.items():
            if variable.is_sparse:
                raise LoadError(
                    "input '%s' is sparse, and only dense inputs are supported: in CNTK, save a clone of the model with a "
                    "dense input in its place; of a loss, save the network below it, without the labels" % name
                )
        inputs = tuple(_spec(name, variable) for name, variable in self._arguments.items())
        outputs = tuple(_spec(name, variable) for name, variable in self._results.items())
        self.signatures = {
            "default": Signature(declared_inputs(options.inputs, inputs), declared_outputs(options.outputs, outputs))
        }
        self._lookups = Lookups(function)
        # Where sizes are open, some do not fit what the model does with them.
        self._open = any(-1 in (spec.shape or ())[1:] for spec in inputs)

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        return analyse(self._function, self._arguments, self._results)

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        wanted = wanted_outputs(outputs, list(self._results))
        arrays = {spec.name: check_input(spec, inputs) for spec in self.signatures["default"].inputs}
        empty = [name for name, array in arrays.items() if not array.size]
        if empty:
            raise InvalidInput("input '%s' has no values in it, which CNTK does not take" % empty[0])
        given = {self._arguments[name]: _value(self._arguments[name], array) for name, array in arrays.items()}
        variables = [self._results[name] for name in wanted]
        try:
            self._lookups.check(given)
            results = self._function.eval(given, outputs=variables)
        except ValueError as error:
            raise InvalidInput(_sentence(error)) from error
        except RuntimeError as error:
            told = _sentence(error)  # the call stack below it has names with "alloc" in them
            if re.search(r"alloc|out of memory", told, re.IGNORECASE):
                raise MemoryError(told) from error
            if self._open:
                raise InvalidInput(told) from error
            raise
        if len(wanted) == 1:
            results = {variables[0]: results}
        return {name: _array(name, results[variable]) for name, variable in zip(wanted, variables)}


def _named(variables: Sequence[Any], kind: str, taken: Dict[str, Any]) -> Dict[str, Any]:
    """By name, or by uid where there is none, several have it, or another one is `taken` by it."""
    if not variables:
        raise LoadError("the model has no %ss" % kind)
    counts = Counter(variable.name for variable in variables)
    free = [v.name and counts[v.name] == 1 and taken.get(v.name, v).uid == v.uid for v in variables]
    return {v.name if is_free else v.uid: v for is_free, v in zip(free, variables)}


def _spec(name: str, variable: Any) -> TensorSpec:
    """Negative sizes are CNTK's free and inferred ones."""
    try:
        datatype = datatype_of(variable.dtype)
    except (KeyError, TypeError):
        raise LoadError("'%s' is of a datatype that cannot be served: %s" % (name, variable.dtype)) from None
    sizes = tuple(size if size >= 0 else -1 for size in variable.shape)
    return TensorSpec(name, datatype, (-1,) * len(variable.dynamic_axes) + sizes)


def _value(variable: Any, array: np.ndarray) -> Any:
    """One array; of sequences, one for each row."""
    array = np.ascontiguousarray(array)
    return list(array) if len(variable.dynamic_axes) > 1 else array


def _array(name: str, result: Any) -> np.ndarray:
    if isinstance(result, np.ndarray):
        return result
    rows = [np.asarray(row) for row in result]  # type: List[np.ndarray]
    if len({row.shape for row in rows}) > 1:
        raise Unsupported("the sequences of output '%s' have different lengths: ask for one row at a time" % name)
    return np.stack(rows)


def _sentence(error: BaseException) -> str:
    """CNTK's message without the call stack and the node's name."""
    return _NODE.sub("", first_line(error))
