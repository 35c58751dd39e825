"""A signature of a loaded model: what clients see of it, and how it runs."""

from typing import Any, Callable, Collection, Dict, Iterable, Mapping, NamedTuple, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf

from runtimes.contract import BatchAnalysis, InputRange, Signature, TensorSpec, datatype_of

_PYTHON_OPERATORS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_CALLS_PYTHON = (
    "it calls a Python function (tf.py_function or tf.numpy_function), which exists only in the process that saved it"
)


class LoadedSignature(NamedTuple):
    """
    run         computes outputs: arrays by input name, and names of outputs → arrays by output name
    analyze     analyzes the rows in the signature's graph, without running it
    ranges      reads the input ranges from the signature's graph, without running it
    definition  returns the GraphDef with the shapes of tensors, and the names of placeholders that stand for variables
    problem     why it cannot be served; "" if it can
    parts       the names of outputs that are part of a ragged or sparse tensor
    """

    signature: Signature
    run: Callable[[Dict[str, np.ndarray], Sequence[str]], Dict[str, Any]]
    analyze: Callable[[], BatchAnalysis]
    ranges: Callable[[], Dict[str, InputRange]]
    definition: Callable[[], Tuple[Any, Set[str]]]
    problem: str
    parts: Tuple[str, ...] = ()


def has_python_nodes(nodes: Iterable[Any], library: Any) -> bool:
    """Whether a graph's nodes or one of its functions call a Python function, which is not part of the file."""
    functions = [function.node_def for function in library.function]
    return any(node.op in _PYTHON_OPERATORS for body in [nodes, *functions] for node in body)


def describe(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any], optional: Collection[str] = (), calls_python: bool = False
) -> Tuple[Signature, str]:
    """Return what clients see of these tensors or specs, and why the signature cannot be served; "" if it can.

    optional  inputs that a request may leave out. Those that cannot be served are left out of every request
    """
    needed = {key: value for key, value in inputs.items() if key not in optional}
    refused = {key: why for key, why in ((key, reason(value)) for key, value in outputs.items()) if why}
    problem = _CALLS_PYTHON if calls_python else ""
    for key, value in needed.items():
        if reason(value):
            problem = "input '%s' cannot be served: %s" % (key, reason(value))
    if len(refused) == len(outputs):
        reasons = "; ".join("output '%s' cannot be served: %s" % each for each in refused.items())
        problem = problem or reasons or "it has no outputs"
    if problem:
        return Signature((), ()), problem
    left_out = {key: inputs[key] for key in optional if not reason(inputs[key])}
    return Signature(_specs(needed), _specs(served(outputs)), refused, unbatched=_specs(left_out)), ""


def served(outputs: Mapping[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in outputs.items() if not reason(value)}


def reason(value: Any) -> str:
    """Return why an input or output cannot be served; "" if it can."""
    if isinstance(value, (tf.TensorSpec, tf.Tensor)):
        return "" if _datatype(value.dtype) else "it is %s, which the protocol lacks" % value.dtype.name
    kind = type(value).__name__
    layout = next((word for word in ("ragged", "sparse") if word in kind.lower()), "")
    return "it is a %s tensor, which the protocol lacks" % layout if layout else "it is not a tensor"


def _specs(values: Mapping[str, Any]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(key, _datatype(value.dtype), _shape(value.shape)) for key, value in sorted(values.items()))


def _shape(shape: tf.TensorShape) -> Any:
    return None if shape.rank is None else tuple(-1 if size is None else size for size in shape.as_list())


def _datatype(dtype: tf.DType) -> str:
    """Return the protocol's name of a datatype; "" if it has none."""
    if dtype.base_dtype in (tf.resource, tf.variant):  # TensorFlow maps these to numpy's object, like strings
        return ""
    try:
        return datatype_of(dtype.base_dtype.as_numpy_dtype)
    except (KeyError, TypeError):
        return ""
