"""Turns the arrays of a program into tensors, and tensors into arrays of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gateway.codecs.cast import cast
from gateway.errors import InvalidRequest
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor, from_array, to_array


def named_inputs(given: Any, named: Mapping[str, Any], signature: Signature) -> dict[str, Any]:
    """Return the inputs by name. Raises InvalidRequest.

    given: a mapping, None, or the array of the only input, or of the only one that is not optional
    """
    if given is None:
        return dict(named)
    if isinstance(given, Mapping):
        if twice := [name for name in given if name in named]:
            raise InvalidRequest(f"input '{twice[0]}' is given twice")
        return {**given, **named}
    specs, only = signature.inputs, signature.only_input()
    if only is None:
        names = ", ".join(f"'{spec.name}'" for spec in specs)
        raise InvalidRequest(f"the model has {len(specs)} inputs, so an array needs a name; they are {names or 'none'}")
    if only.name in named:
        raise InvalidRequest(f"input '{only.name}' is given twice")
    return {only.name: given, **named}


def to_tensors(arrays: Mapping[str, Any], specs: Sequence[TensorSpec]) -> list[Tensor]:
    """Return the arrays, or what numpy makes arrays of, with the datatypes of the inputs. Raises InvalidRequest."""
    datatypes = {spec.name: spec.datatype for spec in specs}
    return [_to_tensor(name, value, datatypes.get(name, "")) for name, value in arrays.items()]


def to_rows(arrays: Mapping[str, Any], specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """Return arrays whose first dimensions are the same number of rows. Raises InvalidRequest."""
    datatypes = {spec.name: spec.datatype for spec in specs}
    rows = {name: _of_rows(name, value, datatypes.get(name, "")) for name, value in arrays.items()}
    if len({len(array) for array in rows.values()}) != 1:
        raise InvalidRequest("all inputs must have the same number of rows")
    return rows


def _of_rows(name: str, value: Any, datatype: str) -> np.ndarray:
    try:
        array = _to_array(value, datatype)
    except (TypeError, ValueError):
        raise InvalidRequest(f"input '{name}' is not an array of {datatype or 'one datatype'}") from None
    if not array.ndim:
        raise InvalidRequest(f"input '{name}' is a single value; it must be an array whose first dimension counts rows")
    return array


def _to_tensor(name: str, value: Any, datatype: str) -> Tensor:
    try:
        array = _to_array(value, datatype)
        return from_array(name, cast(name, array, datatype))
    except InvalidRequest:
        raise
    except KeyError:
        raise InvalidRequest(f"input '{name}' is an array of {array.dtype}, which no model accepts") from None
    except (TypeError, ValueError) as error:
        reason = f": {error}" if isinstance(error, TypeError) and datatype in ("", "BYTES") else ""
        raise InvalidRequest(f"input '{name}' is not an array of {datatype or 'one datatype'}{reason}") from None


def _to_array(value: Any, datatype: str) -> np.ndarray:
    if datatype == "BYTES" and not isinstance(value, np.ndarray):
        return np.asarray(value, dtype=object)  # otherwise numpy would strip zeros from the end of each string
    return np.asarray(value)


def to_arrays(tensors: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Return copies, because the worker can still write to the memory in which large results are. Strings are bytes."""
    return {tensor.name: np.array(to_array(tensor)) for tensor in tensors}
