"""CNTK v2 models (.model, .dnn, .cmf), run by CNTK 2.7.

Names are those of the model's arguments and outputs. A variable without a unique name is called by its uid. Shapes are
those of CNTK's Python API, preceded by the dynamic axes: [batch, …], or [batch, time, …] for sequences. All sequences
of a request have the same length. Sparse inputs are dense here. An output that has one value for all rows is refused,
unless there are no others.

CNTK's functions are not thread-safe. A worker has a single thread.
"""

import re
import warnings
from collections import Counter
from typing import Any, Dict, FrozenSet, List, Optional, Sequence

import numpy as np

from runtimes.checks import check_input, declared_inputs, declared_outputs, known_parameters
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
from runtimes.needs import chosen, with_needs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about an unknown Linux distribution, and about missing GPUs
    import cntk
    from cntk.misc.optimized_rnnstack_converter import convert_optimized_rnnstack
    from scipy.sparse import csr_matrix

    from .analysis import analyze, has_batch
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
        self.options = options  # with which a profile loads the artifact again
        if function.placeholders:
            raise LoadError(
                "the placeholder '%s' was never replaced, so the model is incomplete: replace it in CNTK "
                "(Function.replace_placeholders) and save the model again" % function.placeholders[0].name
            )
        arguments = _named(function.arguments, "input", {})
        names = _named(function.outputs, "output", arguments)
        function = _for_cpu(function)
        results = dict(zip(names, _unique(function.outputs)))
        needs = {name: _needed(result, arguments) for name, result in results.items()}
        refused = _refused(results, arguments, needs)
        if refused and len(refused) == len(results):
            raise LoadError("no output can be served: %s" % "; ".join(dict.fromkeys(refused.values())))
        if refused:  # what only they need is left out
            function = cntk.combine([result for name, result in results.items() if name not in refused])
        self.function = function
        needed = frozenset().union(*(found for name, found in needs.items() if name not in refused))
        self._results = {name: result for name, result in results.items() if name not in refused}
        self._arguments = {name: each for name, each in arguments.items() if not refused or name in needed}
        inputs = tuple(_spec(name, variable) for name, variable in self._arguments.items())
        outputs = tuple(_spec(name, variable) for name, variable in self._results.items())
        signature = Signature(
            declared_inputs(options.inputs, inputs), declared_outputs(options.outputs, outputs), refused
        )
        self.signatures = {"default": with_needs(signature, needs)}
        self._lookups = Lookups(function)
        # With dynamic sizes, a RuntimeError of CNTK can mean that a request's sizes do not fit the model.
        self._has_dynamic_sizes = any(-1 in (spec.shape or ())[1:] for spec in inputs)

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        return analyze(self.function, self._arguments, self._results)

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return input_ranges(self.function, self._arguments)

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        own = self.signatures["default"]
        names, needed = chosen(own, outputs, inputs)
        arrays = {spec.name: check_input(spec, inputs) for spec in own.inputs if spec.name in needed}
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
    variables = _unique(variables)
    counts = Counter(variable.name for variable in variables)
    free = [v.name and counts[v.name] == 1 and taken.get(v.name, v).uid == v.uid for v in variables]
    return {v.name if is_free else v.uid: v for is_free, v in zip(free, variables)}


def _unique(variables: Sequence[Any]) -> List[Any]:
    """Return each variable once: trainers list a loss twice that they also report."""
    return list({v.uid: v for v in variables}.values())


def _for_cpu(function: Any) -> Any:
    """Return the function with CNTK's own equivalents of layers that only run on a GPU."""
    stacks = cntk.logging.graph.depth_first_search(
        function, lambda each: isinstance(each, cntk.Function) and each.op_name == "OptimizedRNNStack", depth=-1
    )
    if not stacks:
        return function
    try:
        return convert_optimized_rnnstack(function)
    except Exception as error:
        raise LoadError(
            "'%s' (uid %s) is a recurrent layer for a GPU, and CNTK cannot convert it for a CPU: %s"
            % (stacks[0].name, stacks[0].uid, _client_message(error))
        ) from error


def _spec(name: str, variable: Any) -> TensorSpec:
    try:
        datatype = datatype_of(variable.dtype)
    except (KeyError, TypeError):
        raise LoadError("'%s' has a datatype that cannot be served: %s" % (name, variable.dtype)) from None
    # CNTK's free and inferred sizes are negative.
    sizes = tuple(size if size >= 0 else -1 for size in variable.shape)
    return TensorSpec(name, datatype, (-1,) * len(variable.dynamic_axes) + sizes)


def _needed(result: Any, arguments: Dict[str, Any]) -> FrozenSet[str]:
    """Return the names of the arguments that a result depends on."""
    uids = {each.uid for each in cntk.combine([result]).arguments}
    return frozenset(name for name, each in arguments.items() if each.uid in uids)


def _refused(results: Dict[str, Any], arguments: Dict[str, Any], needs: Dict[str, FrozenSet[str]]) -> Dict[str, str]:
    """Return why results cannot be served."""
    refused = {}
    for name, result in results.items():
        sparse = [each for each in sorted(needs[name]) if arguments[each].is_sparse and len(arguments[each].shape) != 1]
        if sparse:
            refused[name] = (
                "input '%s' is sparse with %d static axes, and sparse inputs are only supported with one: in CNTK, "
                "save a clone of the model with a dense input instead" % (sparse[0], len(arguments[sparse[0]].shape))
            )
        elif result.is_sparse and not result.is_input:
            refused[name] = "it is sparse"
    # A value that is computed from all rows belongs to none. If there is nothing else, the model answers unbatched.
    alone = [name for name, result in results.items() if not has_batch(result)]
    of_batches = [name for name in alone if any(has_batch(arguments[each]) for each in needs[name])]
    if len(of_batches) + len(refused) < len(results):
        refused.update(dict.fromkeys(of_batches, "it is one value for all rows of a batch, and not one for each row"))
    return refused


def _value(variable: Any, array: np.ndarray) -> Any:
    """Convert an input for CNTK: sequences are a list with one array per row, anything else is one array."""
    if variable.is_sparse:
        steps = array if len(variable.dynamic_axes) > 1 else array[:, np.newaxis]
        return [csr_matrix(row) for row in steps]
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
