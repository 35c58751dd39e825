"""Our form of a Python model: a class whose method `predict` gets the inputs by name and returns the outputs."""

import inspect
import os
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from runtimes.checks import check_input, declared_inputs, declared_outputs, quoted, wanted_outputs
from runtimes.contract import LoadError, LoadOptions, Model, Signature, TensorSpec

from .annotations import input_spec, output_specs
from .arrays import as_output, detached, read_only

_HOW_TO_DECLARE = (
    'annotate it, as in def predict(self, x: "FP32[-1, 4]") -> {"y": "FP32[-1]"}, or add [[outputs]] to model.toml'
)


class Context(NamedTuple):
    """What `load(self, context)` gets.

    folder      of model.py
    parameters  [parameters] of model.toml
    device      "cpu" or "cuda"
    threads     the number of threads that one call should use
    name        of the model
    version     of the model
    """

    folder: str
    parameters: Dict[str, Any]
    device: str
    threads: int
    name: str
    version: str


class OwnModel(Model):
    def __init__(self, model_class: Any, options: LoadOptions) -> None:
        predict = model_class.predict
        if inspect.isgeneratorfunction(predict) or inspect.isasyncgenfunction(predict):
            raise LoadError("predict is a generator: several answers to one request are not supported yet; return one")
        if inspect.iscoroutinefunction(predict):
            raise LoadError("predict is a coroutine, but it is called as an ordinary function: remove async")
        self._instance = model_class()
        inputs = _inputs(self._instance.predict)
        outputs = output_specs(self._instance.predict) or options.outputs
        if not outputs:
            raise LoadError("predict does not say what it returns: " + _HOW_TO_DECLARE)
        self._signature = Signature(declared_inputs(options.inputs, inputs), declared_outputs(options.outputs, outputs))
        self.signatures = {"default": self._signature}
        _call_load(self._instance, options)

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        arrays = {spec.name: read_only(check_input(spec, inputs)) for spec in self._signature.inputs}
        specs = {spec.name: spec for spec in self._signature.outputs}
        wanted = wanted_outputs(outputs, list(specs))
        returned = self._instance.predict(**arrays)
        if not isinstance(returned, dict):
            if len(specs) > 1:
                raise TypeError(
                    "predict returned %s, not a dictionary of %s" % (type(returned).__name__, quoted(specs))
                )
            returned = {next(iter(specs)): returned}
        missing = [name for name in wanted if name not in returned]
        if missing:
            raise ValueError("predict returned %s, but not %s" % (quoted(returned), quoted(missing)))
        return detached({name: as_output(specs[name], returned[name]) for name in wanted}, arrays.values())

    def close(self) -> None:
        if hasattr(self._instance, "close"):
            self._instance.close()


def _inputs(predict: Any) -> Tuple[TensorSpec, ...]:
    """Return the inputs, which are the parameters of `predict`. Raises LoadError."""
    specs: List[TensorSpec] = []
    for parameter in inspect.signature(predict).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise LoadError("predict has the parameter '%s', but each input needs a name: name them all" % parameter)
        if parameter.default is not parameter.empty:
            raise LoadError(
                "predict's '%s' has a default, but optional inputs are not supported yet: remove the default, or make "
                "it a parameter of model.toml" % parameter.name
            )
        specs.append(input_spec(parameter.name, parameter.annotation))
    if not specs:
        raise LoadError("predict has no parameters besides self, so the model has no inputs: add one")
    return tuple(specs)


def _call_load(instance: Any, options: LoadOptions) -> None:
    load = getattr(instance, "load", None)
    if load is None:
        return
    folder = os.path.dirname(options.artifact)
    context = Context(folder, dict(options.parameters), options.device, options.threads, options.name, options.version)
    if inspect.signature(load).parameters:
        load(context)
    else:
        load()
