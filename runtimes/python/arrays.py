"""Arrays on their way into a Python model and out of it."""

from typing import Any, Dict, Iterable

import numpy as np

from runtimes.checks import has_shape
from runtimes.contract import TensorSpec, datatype_of, kind_of, numpy_dtype


def read_only(array: np.ndarray) -> np.ndarray:
    """Return a copy that the model cannot change, because the worker may run the same inputs again.

    The memory of `array` gets the inputs of other requests afterwards, while the model may keep what it got.
    """
    kept = array.copy()
    kept.flags.writeable = False
    return kept


def as_output(spec: TensorSpec, value: Any) -> np.ndarray:
    """Return what a model returned for an output as an array. Raises ValueError if it does not fit `spec`.

    An array must have the declared datatype. Numbers and lists are converted to it, and texts to bytes.
    """
    converts = spec.datatype and not isinstance(value, (np.ndarray, np.generic))
    array = as_datatype(spec, value) if converts else np.asarray(value)
    if array.dtype.kind in "SUO":
        array = encoded(array)
    try:
        datatype = datatype_of(array.dtype)
    except KeyError:
        raise ValueError("output '%s' is an array of %s, which no client can get" % (spec.name, array.dtype)) from None
    if spec.datatype and datatype != spec.datatype:
        raise ValueError(
            "output '%s' is %s, but it is declared as %s: convert it with astype" % (spec.name, datatype, spec.datatype)
        )
    if spec.shape is not None and not has_shape(array.shape, spec.shape):
        raise ValueError(
            "output '%s' has shape %s, but it is declared with %s" % (spec.name, list(array.shape), list(spec.shape))
        )
    return np.asarray(array, numpy_dtype(datatype))  # in the byte order of this machine


def as_datatype(spec: TensorSpec, value: Any) -> np.ndarray:
    """Return values in the datatype of `spec`. Raises ValueError if integers or booleans do not stay the same."""
    array = np.asarray(value, numpy_dtype(spec.datatype))
    if kind_of(spec.datatype) in ("bool", "int", "uint") and not np.array_equal(array, value):
        raise ValueError("output '%s' has values that are not %s" % (spec.name, spec.datatype))
    return array


def detached(outputs: Dict[str, np.ndarray], inputs: Iterable[np.ndarray]) -> Dict[str, np.ndarray]:
    """Return the outputs, with copies of those that are views of inputs, whose memory belongs to the caller."""
    theirs = list(inputs)
    return {
        name: array.copy() if any(np.may_share_memory(array, each) for each in theirs) else array
        for name, array in outputs.items()
    }


def encoded(array: np.ndarray) -> np.ndarray:
    """Return an object array of bytes, for an array of texts or bytes. Raises ValueError for other objects."""
    found = np.empty(array.shape, object)
    for index, element in enumerate(array.flat):
        if isinstance(element, str):
            element = element.encode()
        if not isinstance(element, bytes):
            raise ValueError("an array of objects contains %s, not only texts and bytes" % type(element).__name__)
        found.flat[index] = element
    return found
