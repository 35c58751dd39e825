"""Checks that several runtimes share. Each raises a sentence for the client or the owner of the model.

A runtime need not use them if its framework itself refuses invalid inputs, names them, and uses words that a client
understands.
"""

import json
import re
from typing import Any, Dict, Iterable, List, Sequence, Tuple

import numpy as np

from runtimes.contract import InvalidInput, LoadError, Signature, TensorSpec, datatype_of, numpy_dtype

# CUDA errors that corrupt the context, so that every further call in the process fails. Frameworks quote them in their
# own messages.
_LOST = re.compile(
    "illegal memory access|device-side assert|unspecified launch failure|misaligned address|illegal instruction|"
    "launch timed out|uncorrectable ECC error|invalid program counter|hardware stack error",
    re.IGNORECASE,
)


def is_device_lost(message: str) -> bool:
    """Return whether a framework's error means that this process has lost its device; if so, raise DeviceLost."""
    return bool(_LOST.search(message))


def plain(message: str) -> str:
    """Return a framework's message, or a sentence in place of it if it is only the name of what failed."""
    if re.match("sto(i|l|ll|ul|ull|f|d|ld)$", message):  # C++'s functions
        return "a string cannot be read as a number"
    return "an integer is divided by zero" if message == "ZeroDivisionError" else message


def check_input(spec: TensorSpec, inputs: Dict[str, np.ndarray]) -> np.ndarray:
    """Return the array for `spec`. Raises InvalidInput if it is missing or does not match `spec`."""
    if spec.name not in inputs:
        raise InvalidInput("input '%s' is missing" % spec.name)
    array = inputs[spec.name]
    if spec.datatype and array.dtype != numpy_dtype(spec.datatype):
        actual = datatype_of(array.dtype)
        raise InvalidInput("input '%s' has datatype %s, expected %s" % (spec.name, actual, spec.datatype))
    if spec.shape is not None and not has_shape(array.shape, spec.shape):
        raise InvalidInput("input '%s' has shape %s, expected %s" % (spec.name, list(array.shape), list(spec.shape)))
    return array


def given_inputs(signature: Signature, inputs: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return the arrays of a request as `check_input` does, in the model's order. Optional ones may be left out."""
    needed = {spec.name for spec in signature.inputs}.difference(signature.optional)
    return {
        spec.name: check_input(spec, inputs)
        for spec in signature.inputs + signature.unbatched
        if spec.name in inputs or spec.name in needed
    }


def has_shape(shape: Sequence[int], declared: Sequence[int]) -> bool:
    """Return whether a shape is the declared one, in which -1 stands for any size."""
    return len(shape) == len(declared) and all(want in (-1, size) for want, size in zip(declared, shape))


def wanted_outputs(outputs: Sequence[str], served: Sequence[str]) -> Sequence[str]:
    """Return the outputs of `served` that a request names, or all if it names none, in the order of `served`.

    Raises InvalidInput for an output that is not in `served`.
    """
    for name in outputs:
        if name not in served:
            raise InvalidInput("the model has no output '%s' that can be served; it has %s" % (name, quoted(served)))
    return [name for name in served if name in outputs] if outputs else served


def declared_inputs(
    declared: Sequence[TensorSpec], known: Tuple[TensorSpec, ...], resizable: bool = False
) -> Tuple[TensorSpec, ...]:
    """Return the inputs that the artifact has (`known`), refined by those that model.toml declares.

    resizable: whether the framework accepts other sizes than the artifact declares.

    Raises LoadError if some but not all inputs are declared, and if a declaration contradicts the artifact.
    """
    by_name = {spec.name: spec for spec in declared}
    if declared and sorted(by_name) != sorted(spec.name for spec in known):
        raise LoadError(
            "the inputs %s are declared, but the model has %s: declare all of them, or none"
            % (quoted(by_name), quoted(spec.name for spec in known))
        )
    return tuple(_merge("input", by_name.get(spec.name, spec), spec, resizable) for spec in known)


def declared_outputs(declared: Sequence[TensorSpec], known: Tuple[TensorSpec, ...]) -> Tuple[TensorSpec, ...]:
    """Return the outputs that model.toml declares, which may be some of those that the artifact has, or else `known`.

    Raises LoadError if a declared output does not exist, and if a declaration contradicts the artifact.
    """
    by_name = {spec.name: spec for spec in known}
    for spec in declared:
        if spec.name not in by_name:
            raise LoadError("output '%s' is declared, but the model has %s" % (spec.name, quoted(by_name)))
    return tuple(_merge("output", spec, by_name[spec.name]) for spec in declared) or known


def _merge(kind: str, declared: TensorSpec, known: TensorSpec, any_size: bool = False) -> TensorSpec:
    """Return the declaration, with whatever it leaves out taken from the artifact. It may be narrower than `known`."""
    if declared.datatype and known.datatype and declared.datatype != known.datatype:
        raise LoadError(
            "%s '%s' is declared as %s, but the model has %s: declare that, or leave the datatype out"
            % (kind, known.name, declared.datatype, known.datatype)
        )
    if (
        declared.shape is not None
        and known.shape is not None
        and not _fits(kind, declared.shape, known.shape, any_size)
    ):
        raise LoadError(
            "%s '%s' is declared with shape %s, but the model has %s: declare a shape within that, or leave it out"
            % (kind, known.name, list(declared.shape), list(known.shape))
        )
    return TensorSpec(
        known.name, declared.datatype or known.datatype, known.shape if declared.shape is None else declared.shape
    )


def _fits(kind: str, declared: Sequence[int], known: Sequence[int], any_size: bool) -> bool:
    """Return whether a declared shape is compatible with the artifact's.

    A fixed size of an input cannot be declared as variable; that of an output can.
    """

    def is_compatible(declared_size: int, known_size: int) -> bool:
        if any_size or known_size in (-1, declared_size):
            return True
        return declared_size == -1 and kind == "output"

    return len(declared) == len(known) and all(map(is_compatible, declared, known))


def parameter(parameters: Dict[str, Any], name: str, choices: Sequence[Any]) -> Any:
    """Return a parameter's value, by default the first choice. Raises LoadError if it is none of the choices."""
    value = parameters.get(name, choices[0])
    # Types are compared as well, because True == 1 in Python but not in TOML.
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        allowed = " or ".join(json.dumps(choice) for choice in choices)
        raise LoadError("'parameters.%s' in model.toml is %s, but it must be %s" % (name, json.dumps(value), allowed))
    return value


def names_parameter(parameters: Dict[str, Any], name: str, default: Sequence[str]) -> List[str]:
    """Return a parameter that must be a list of strings, by default `default`. Raises LoadError if it is not."""
    value = parameters.get(name, list(default))
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise LoadError("'parameters.%s' in model.toml must be a list of strings" % name)
    return value


def known_parameters(parameters: Dict[str, Any], names: Sequence[str]) -> None:
    """Raise LoadError if a parameter is not one of this runtime's, which are `names`."""
    for name in parameters:
        if name not in names:
            raise LoadError("there is no parameter '%s'; this runtime has %s" % (name, quoted(names)))


def quoted(names: Iterable[str]) -> str:
    """Return the names in quotation marks, separated by commas, or "none"."""
    return ", ".join("'%s'" % name for name in names) or "none"
