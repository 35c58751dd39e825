"""What several runtimes check in the same words. Each raises a sentence for whoever is at fault.

A runtime need not use these: a framework that refuses what does not fit, by name and in words that
a client understands, needs no help.
"""

import json
import re
from typing import Any, Dict, Iterable, List, Sequence, Tuple

import numpy as np

from runtimes.contract import InvalidInput, LoadError, TensorSpec, datatype_of, numpy_dtype

# CUDA's errors after which every further call in the process fails too.
_LOST = re.compile(
    "illegal memory access|device-side assert|unspecified launch failure|misaligned address|illegal instruction|"
    "launch timed out|uncorrectable ECC error|invalid program counter|hardware stack error",
    re.IGNORECASE,
)


def is_device_lost(said: str) -> bool:
    """Whether a framework's error says that the device is lost to this process: raise DeviceLost then."""
    return bool(_LOST.search(said))


def plain(said: str) -> str:
    """A framework's sentence, in words where it has only the name of what failed."""
    if re.match("sto(i|l|ll|ul|ull|f|d|ld)$", said):  # C++'s functions
        return "a string cannot be read as a number"
    return "an integer is divided by zero" if said == "ZeroDivisionError" else said


def check_input(spec: TensorSpec, inputs: Dict[str, np.ndarray]) -> np.ndarray:
    """The array for `spec`. Raises InvalidInput when it is missing or not what `spec` says."""
    if spec.name not in inputs:
        raise InvalidInput("input '%s' is missing" % spec.name)
    array = inputs[spec.name]
    if spec.datatype and array.dtype != numpy_dtype(spec.datatype):
        given = datatype_of(array.dtype)
        raise InvalidInput("input '%s' has datatype %s, expected %s" % (spec.name, given, spec.datatype))
    shape = array.shape if spec.shape is None else spec.shape
    if len(shape) != array.ndim or any(want not in (-1, size) for want, size in zip(shape, array.shape)):
        raise InvalidInput("input '%s' has shape %s, expected %s" % (spec.name, list(array.shape), list(shape)))
    return array


def wanted_outputs(outputs: Sequence[str], served: Sequence[str]) -> Sequence[str]:
    """Those of `served` that a request wants, in their order. Raises InvalidInput for one that is not there."""
    for name in outputs:
        if name not in served:
            raise InvalidInput("the model has no output '%s' that can be served; it has %s" % (name, quoted(served)))
    return [name for name in served if name in outputs] if outputs else served


def declared_inputs(
    declared: Sequence[TensorSpec], known: Tuple[TensorSpec, ...], resizable: bool = False
) -> Tuple[TensorSpec, ...]:
    """`known`, with what model.toml declares in its place. `resizable`: the framework takes other sizes than it names.

    Raises LoadError unless it declares all or none, and for what contradicts the artifact.
    """
    by_name = {spec.name: spec for spec in declared}
    if declared and sorted(by_name) != sorted(spec.name for spec in known):
        raise LoadError("either all of the inputs %s must be declared, or none" % quoted(spec.name for spec in known))
    return tuple(_completed("input", by_name.get(spec.name, spec), spec, resizable) for spec in known)


def declared_outputs(declared: Sequence[TensorSpec], known: Tuple[TensorSpec, ...]) -> Tuple[TensorSpec, ...]:
    """What model.toml declares, which can be a part, else `known`.

    Raises LoadError for an output that is not there, and for what contradicts the artifact.
    """
    by_name = {spec.name: spec for spec in known}
    for spec in declared:
        if spec.name not in by_name:
            raise LoadError("output '%s' is declared, but the model has %s" % (spec.name, quoted(by_name)))
    return tuple(_completed("output", spec, by_name[spec.name]) for spec in declared) or known


def _completed(kind: str, declared: TensorSpec, known: TensorSpec, any_size: bool = False) -> TensorSpec:
    """What a declaration leaves out is the artifact's. It may be narrower than that, and must not contradict it."""
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
    """An input that is declared as open must be open; an output may be declared more loosely than the model has it."""

    def holds(size: int, own: int) -> bool:
        return any_size or own == -1 or size == own or (size == -1 and kind == "output")

    return len(declared) == len(known) and all(holds(size, own) for size, own in zip(declared, known))


def parameter(parameters: Dict[str, Any], name: str, choices: Sequence[Any]) -> Any:
    """A parameter's value; the first choice where it is absent. Raises LoadError for what is no choice."""
    value = parameters.get(name, choices[0])
    # True == 1 in Python, and not in TOML.
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        allowed = " or ".join(json.dumps(choice) for choice in choices)
        raise LoadError("'parameters.%s' in model.toml is %s, but it must be %s" % (name, json.dumps(value), allowed))
    return value


def names_parameter(parameters: Dict[str, Any], name: str, default: Sequence[str]) -> List[str]:
    """A parameter that is a list of strings; `default` where it is absent. Raises LoadError for anything else."""
    value = parameters.get(name, list(default))
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise LoadError("'parameters.%s' in model.toml must be a list of strings" % name)
    return value


def known_parameters(parameters: Dict[str, Any], names: Sequence[str]) -> None:
    """Raises LoadError for a parameter that this runtime does not have."""
    for name in parameters:
        if name not in names:
            raise LoadError("there is no parameter '%s'; this runtime has %s" % (name, quoted(names)))


def quoted(names: Iterable[str]) -> str:
    return ", ".join("'%s'" % name for name in names) or "none"
