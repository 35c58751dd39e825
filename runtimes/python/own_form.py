"""Our form of a Python model: a class whose method `predict` gets the inputs by name and returns the outputs.

If `predict` is a generator, the model is decoupled: each value is an answer. If one of its parameters is annotated with
`modelport.Request`, it gets the request there, and is called for each request alone.
"""

import inspect
import os
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from runtimes.checks import declared_inputs, declared_outputs, given_inputs, quoted, wanted_outputs
from runtimes.contract import BatchAnalysis, LoadError, LoadOptions, Model, Request, Signature, TensorSpec

from .annotations import input_spec, output_specs
from .arrays import as_output, read_only
from .calls import Caller

# As `from __future__ import annotations` writes it.
_REQUEST_TEXTS = ("Request", "modelport.Request")
_HOW_TO_DECLARE = (
    'annotate it, as in def predict(self, x: "FP32[-1, 4]") -> {"y": "FP32[-1]"}, or add [[outputs]] to model.toml'
)


class Context:
    """What `load(self, context)` gets.

    folder      of model.py
    parameters  [parameters] of model.toml
    device      "cpu" or "cuda"
    threads     the number of threads that one call should use
    name        of the model
    version     of the model
    call        sends a request to another model (calls.py); only a model that asks for it here can use it
    stream      likewise, for models that give several answers
    """

    def __init__(self, options: LoadOptions, caller: Caller) -> None:
        self.folder = os.path.dirname(options.artifact)
        self.parameters = dict(options.parameters)
        self.device, self.threads = options.device, options.threads
        self.name, self.version = options.name, options.version
        self._caller: Optional[Caller] = caller

    @property
    def call(self) -> Any:
        return self._used().call

    @property
    def stream(self) -> Any:
        return self._used().stream

    def _used(self) -> Caller:
        if self._caller is None:
            raise AttributeError("context.call and context.stream must be taken in load: self.call = context.call")
        self._caller.is_used = True
        return self._caller

    def close(self) -> None:
        """`load` has returned. Whether the model calls others must be known by then."""
        if self._caller is not None and not self._caller.is_used:
            self._caller = None


class OwnModel(Model):
    def __init__(self, model_class: Any, options: LoadOptions) -> None:
        predict = model_class.predict
        if inspect.iscoroutinefunction(predict) or inspect.isasyncgenfunction(predict):
            raise LoadError("predict is asynchronous, but it is called as an ordinary function: remove async")
        self.decoupled = inspect.isgeneratorfunction(predict)
        self._instance = model_class()
        self._request_name = _request_parameter(self._instance.predict)
        self.takes_requests = bool(self._request_name)
        inputs, optional = _inputs(self._instance.predict, self._request_name)
        outputs = output_specs(self._instance.predict) or options.outputs
        if not outputs:
            raise LoadError("predict does not say what it returns: " + _HOW_TO_DECLARE)
        self._signature = Signature(
            declared_inputs(options.inputs, inputs), declared_outputs(options.outputs, outputs), {}, optional
        )
        self._outputs = {spec.name: spec for spec in self._signature.outputs}
        self.signatures = {"default": self._signature}
        self.calls_models = _call_load(self._instance, options)

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        return BatchAnalysis(alone="predict takes the request") if self.takes_requests else None

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        return self._run(Request(inputs, outputs))

    def infer_requests(
        self, requests: Sequence[Request], signature: str
    ) -> Sequence[Union[Dict[str, np.ndarray], Exception]]:
        return [self._run(request) for request in requests]  # one, since each runs alone

    def _run(self, request: Request) -> Dict[str, np.ndarray]:
        arrays, wanted = self._arrays(request.inputs), self._wanted(request.outputs)
        returned = self._by_name(self._instance.predict(**arrays, **self._extra(request, arrays)))
        missing = [name for name in wanted if name not in returned]
        if missing:
            raise ValueError("predict returned %s, but not %s" % (quoted(returned), quoted(missing)))
        return self._answer(returned, wanted)

    def stream(
        self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str
    ) -> Iterator[Dict[str, np.ndarray]]:
        return self.stream_request(Request(inputs, outputs), signature)

    def stream_request(self, request: Request, signature: str) -> Iterator[Dict[str, np.ndarray]]:
        arrays, wanted = self._arrays(request.inputs), self._wanted(request.outputs)
        answers = self._instance.predict(**arrays, **self._extra(request, arrays))
        try:
            for returned in answers:
                answer = self._answer(self._by_name(returned), wanted)
                # The model may fill the same arrays again before they are sent.
                yield {name: array.copy() for name, array in answer.items()}
        finally:
            answers.close()

    def _extra(self, request: Request, arrays: Dict[str, np.ndarray]) -> Dict[str, Any]:
        """Return the argument of `predict` for the request itself, if it has one."""
        return {self._request_name: request._replace(inputs=arrays)} if self._request_name else {}

    def _arrays(self, inputs: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Return the arguments of `predict`. Raises InvalidInput."""
        return {name: read_only(array) for name, array in given_inputs(self._signature, inputs).items()}

    def _wanted(self, outputs: Sequence[str]) -> Sequence[str]:
        return wanted_outputs(outputs, list(self._outputs))

    def _by_name(self, returned: Any) -> Dict[str, Any]:
        if isinstance(returned, dict):
            return returned
        if len(self._outputs) > 1:
            got = type(returned).__name__
            raise TypeError("predict returned %s, not a dictionary of %s" % (got, quoted(self._outputs)))
        return {next(iter(self._outputs)): returned}

    def _answer(self, returned: Dict[str, Any], wanted: Sequence[str]) -> Dict[str, np.ndarray]:
        """Return the wanted outputs among those that `predict` returned."""
        return {name: as_output(self._outputs[name], returned[name]) for name in wanted if name in returned}

    def close(self) -> None:
        if hasattr(self._instance, "close"):
            self._instance.close()


def _request_parameter(predict: Any) -> str:
    """Return the parameter of `predict` that gets the request, or "". Raises LoadError if there are several."""
    parameters = inspect.signature(predict).parameters.values()
    found = [each.name for each in parameters if each.annotation is Request or each.annotation in _REQUEST_TEXTS]
    if len(found) > 1:
        raise LoadError("predict takes the request as %s; one parameter is enough" % quoted(found))
    return found[0] if found else ""


def _inputs(predict: Any, request_name: str) -> Tuple[Tuple[TensorSpec, ...], Tuple[str, ...]]:
    """Return the inputs, which are the parameters of `predict`, and the names of optional ones. Raises LoadError.

    request_name: the parameter that is no input, or "".
    """
    specs: List[TensorSpec] = []
    optional: List[str] = []
    for parameter in inspect.signature(predict).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise LoadError("predict has the parameter '%s', but each input needs a name: name them all" % parameter)
        if parameter.name == request_name:
            continue
        if parameter.default is not parameter.empty:
            optional.append(parameter.name)
        specs.append(input_spec(parameter.name, parameter.annotation))
    if not specs:
        raise LoadError("predict has no parameters besides self, so the model has no inputs: add one")
    if len(optional) == len(specs):
        raise LoadError("every parameter of predict has a default, but a request needs an input: remove one")
    return tuple(specs), tuple(optional)


def _call_load(instance: Any, options: LoadOptions) -> bool:
    """Call `load`, and return whether the model may call others."""
    load, caller = getattr(instance, "load", None), Caller(options.calls)
    if load is None:
        return False
    if inspect.signature(load).parameters:
        context = Context(options, caller)
        load(context)
        context.close()
    else:
        load()
    return caller.is_used
