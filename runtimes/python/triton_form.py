"""Triton's form of a Python model: a class TritonPythonModel with `initialize`, `execute` and `finalize`."""

import json
import os
import threading
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from runtimes.checks import declared_inputs, declared_outputs, given_inputs, quoted, wanted_outputs
from runtimes.contract import (
    DATATYPES,
    BatchAnalysis,
    InvalidInput,
    LoadError,
    LoadOptions,
    Model,
    ModelFailed,
    Request,
    ResponseSender,
    SequenceControl,
    Signature,
    TensorSpec,
    Unsupported,
    numpy_dtype,
)

from . import bls, pb_utils
from .arrays import as_output, detached
from .calls import Coroutines

# A deadline that is further away is none: no model waits for years.
_LONGEST_S = 86_400.0
_ERRORS = {pb_utils.TritonError.INVALID_ARG: InvalidInput, pb_utils.TritonError.UNSUPPORTED: Unsupported}


class TritonModel(Model):
    takes_requests = True

    def __init__(self, model_class: Any, options: LoadOptions) -> None:
        if not hasattr(model_class, "execute"):
            raise LoadError("TritonPythonModel has no method execute; add it")
        self._name, self._version = options.name, int(options.version or 1)
        self._config = _completed(model_class, _configuration(options))
        self._signature = Signature(
            declared_inputs(options.inputs, _specs(self._config, "input", options.inputs)),
            declared_outputs(options.outputs, _specs(self._config, "output", options.outputs)),
            {},
            tuple(tensor["name"] for tensor in self._config["input"] if tensor.get("optional")),
        )
        self._outputs = {spec.name: spec for spec in self._signature.outputs}
        self.signatures = {"default": self._signature}
        self.decoupled = self.sends_answers = pb_utils.using_decoupled_model_transaction_policy(self._config)
        self.calls_models = True
        bls.calls, self._coroutines = options.calls, Coroutines()
        self._instance = model_class()
        if hasattr(self._instance, "initialize"):
            self._instance.initialize(_arguments(self._config, options))

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        """Return what the configuration says, since there is no graph."""
        max_rows = self._config["max_batch_size"]
        if not max_rows:
            return BatchAnalysis(alone="max_batch_size is not set")
        if "dynamic_batching" not in self._config:
            return BatchAnalysis(alone="the model's configuration has no dynamic_batching")
        return BatchAnalysis(unknown=("a program has no graph to read",), max_rows=max_rows)

    def infer_requests(
        self, requests: Sequence[Request], signature: str
    ) -> Sequence[Union[Dict[str, np.ndarray], Exception]]:
        if self.decoupled:
            return [Unsupported("the model is decoupled, and runs only for requests of clients") for _ in requests]
        answers: List[Union[Dict[str, np.ndarray], Exception, None]] = [None] * len(requests)
        asked, collectors, indices = [], [], []
        for index, request in enumerate(requests):
            try:
                collector = _Collector(request)
                # Models may change the arrays of their inputs, which belong to the caller.
                asked.append(self._request(request, collector, copies=True))
                collectors.append(collector)
                indices.append(index)
            except InvalidInput as error:
                answers[index] = error
        responses = self._coroutines.finished(self._instance.execute(asked)) if asked else []
        if responses is None and all(each.sender_is_taken for each in asked):
            responses = [None] * len(asked)
        if not isinstance(responses, (list, tuple)):
            raise TypeError("execute returned %s, not a list of responses" % type(responses).__name__)
        if len(responses) != len(asked):
            raise ValueError("execute returned %d responses to %d requests" % (len(responses), len(asked)))
        takes = [each.sender_is_taken for each in asked]
        asked.clear()  # a sender that the model has dropped must not live on here: its end fails the request
        for index, is_taken, collector, response in zip(indices, takes, collectors, responses):
            answers[index] = self._answer(requests[index], is_taken, collector, response)
        return answers  # type: ignore[return-value]

    def _answer(
        self, request: Request, sender_is_taken: bool, collector: "_Collector", response: Any
    ) -> Union[Dict[str, np.ndarray], Exception]:
        """Return the outcome of a request for which `execute` returned this."""
        try:
            if response is None:
                if not sender_is_taken:
                    raise TypeError("execute returned None for a request whose response sender it has not asked for")
                return collector.wait()
            if sender_is_taken:
                raise ValueError("execute returned a response to a request whose response sender it has asked for")
            return self._converted(response, request)
        except Exception as error:  # noqa: BLE001 - the other requests are answered
            return error

    def serve_request(self, request: Request, sender: ResponseSender, signature: str) -> None:
        asked = self._request(request, sender)
        returned = self._coroutines.finished(self._instance.execute([asked]))
        if returned is not None:
            raise TypeError(
                "execute returned %s, but that of a decoupled model must return None" % type(returned).__name__
            )
        if not asked.sender_is_taken:
            raise ValueError("execute has not asked for the response sender of a request of a decoupled model")

    def _request(self, request: Request, sender: ResponseSender, copies: bool = False) -> pb_utils.InferenceRequest:
        """Return a request as models get it. Raises InvalidInput."""
        wanted = wanted_outputs(request.outputs, list(self._outputs))
        arrays = given_inputs(self._signature, request.inputs)
        sequence = request.sequence or SequenceControl(0)
        left = request.deadline - time.monotonic()
        asked = pb_utils.InferenceRequest(
            self._name,
            wanted,
            [pb_utils.Tensor(name, array.copy() if copies else array) for name, array in arrays.items()],
            request.id,
            sequence.id,
            self._version,
            pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START * sequence.start
            | pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END * sequence.end,
            max(1, int(left * 1e6)) if left < _LONGEST_S else 0,
            parameters=request.parameters,
        )
        # What it sends later must not keep the request, which the model may drop.
        plain = Request({}, wanted)
        asked.sender = pb_utils.InferenceResponseSender(sender, lambda response: self._converted(response, plain))
        return asked

    def _converted(self, response: Any, request: Request) -> Dict[str, np.ndarray]:
        """Return the outputs of a response. Raises what the request fails with."""
        if not isinstance(response, pb_utils.InferenceResponse):
            raise TypeError("a response is %s, not an InferenceResponse" % type(response).__name__)
        error = response.error()
        if error is not None:
            code = error.code() if isinstance(error, pb_utils.TritonError) else None
            raise _ERRORS.get(code, ModelFailed)(str(error))
        arrays = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
        wanted = wanted_outputs(request.outputs, list(self._outputs))
        missing = [name for name in wanted if name not in arrays]
        if missing and not self.decoupled:
            raise ValueError("the response has %s, but not %s" % (quoted(arrays), quoted(missing)))
        answer = {}
        for name in wanted:
            if name in arrays:
                answer[name] = as_output(self._outputs[name], _as_declared(self._outputs[name], arrays[name]))
        return detached(answer, request.inputs.values())

    def close(self) -> None:
        if hasattr(self._instance, "finalize"):
            self._instance.finalize()


def _as_declared(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    """Return integers in the declared datatype, if they all fit. Triton sends them as they are."""
    if "INT" not in spec.datatype or array.dtype.kind not in "iu":
        return array
    converted = array.astype(numpy_dtype(spec.datatype))
    return converted if np.array_equal(converted.astype(array.dtype), array) else array


class _Collector(ResponseSender):
    """Takes what a model that is not decoupled sends: one answer, or an error."""

    def __init__(self, request: Request) -> None:
        self._deadline = request.deadline
        self._ended = threading.Event()
        self._outcome: Union[Dict[str, np.ndarray], Exception, None] = None

    @property
    def cancelled(self) -> bool:
        return time.monotonic() > self._deadline

    def send(self, outputs: Dict[str, np.ndarray]) -> None:
        if self._outcome is not None:
            raise RuntimeError("the model is not decoupled, so that each request has one response")
        self._outcome = {name: array.copy() for name, array in outputs.items()}

    def end(self) -> None:
        if self._outcome is None:
            self._outcome = ValueError("the model has ended a request without a response")
        self._ended.set()

    def fail(self, error: Exception) -> None:
        self._outcome = error
        self._ended.set()

    def wait(self) -> Union[Dict[str, np.ndarray], Exception]:
        """Return the outcome when a thread of the model has sent it; nobody waits for it after the deadline."""
        left = self._deadline - time.monotonic()
        if not self._ended.wait(min(max(left, 0.0), _LONGEST_S)) or self._outcome is None:
            return TimeoutError("the model has not sent the final flag for a request")
        return self._outcome


def _configuration(options: LoadOptions) -> Dict[str, Any]:
    """Return the configuration as Triton writes it in JSON, which leaves out the batch dimension."""
    max_rows = options.max_rows or 0
    kind = "KIND_GPU" if options.device == "cuda" else "KIND_CPU"
    config = {
        "name": options.name,
        "platform": "",
        "backend": "python",
        "max_batch_size": max_rows,
        "input": [
            _tensor(spec, max_rows, {"format": "FORMAT_NONE", "optional": spec.name in options.optional})
            for spec in options.inputs
        ],
        "output": [_tensor(spec, max_rows, {"label_filename": ""}) for spec in options.outputs],
        "instance_group": [{"name": options.name + "_0", "kind": kind, "count": 1, "gpus": []}],
        "default_model_filename": os.path.basename(options.artifact),
        "parameters": {name: {"string_value": _text(value)} for name, value in options.parameters.items()},
    }  # type: Dict[str, Any]
    if max_rows and options.batches:
        config["dynamic_batching"] = {}
    config["model_transaction_policy"] = {"decoupled": options.decoupled}
    return config


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _tensor(spec: TensorSpec, max_rows: int, others: Dict[str, Any]) -> Dict[str, Any]:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype or "INVALID"
    dims = list((spec.shape or ())[1:] if max_rows else spec.shape or ())
    return dict(others, name=spec.name, data_type="TYPE_" + datatype, dims=dims)


def _completed(model_class: Any, config: Dict[str, Any]) -> Dict[str, Any]:
    """Return the configuration after `auto_complete_config`. Raises LoadError if the model cannot be served with it."""
    if hasattr(model_class, "auto_complete_config"):
        completed = model_class.auto_complete_config(pb_utils.ModelConfig(config))
        if not isinstance(completed, pb_utils.ModelConfig):
            raise LoadError("auto_complete_config returned %s, not the ModelConfig" % type(completed).__name__)
        config = completed.as_dict()
    for kind in ("input", "output"):
        if not config[kind]:
            raise LoadError(
                "the model has no %ss: declare them in config.pbtxt or model.toml, or in auto_complete_config" % kind
            )
    return config


def _specs(config: Dict[str, Any], kind: str, declared: Sequence[TensorSpec]) -> Tuple[TensorSpec, ...]:
    # A tensor that is declared without a shape has no sizes in the configuration, unless the model has completed it.
    open_names = [spec.name for spec in declared if spec.shape is None]
    batch = (-1,) if config["max_batch_size"] else ()
    found: List[TensorSpec] = []
    for tensor in config[kind]:
        datatype = tensor["data_type"].replace("TYPE_", "", 1)
        datatype = "BYTES" if datatype == "STRING" else datatype
        if datatype not in DATATYPES:
            raise LoadError("'%s' has the data_type %s, which is not supported" % (tensor["name"], tensor["data_type"]))
        shape = batch + tuple(int(size) for size in tensor["dims"])
        is_open = tensor["name"] in open_names and not tensor["dims"]
        found.append(TensorSpec(tensor["name"], datatype, None if is_open else shape))
    return tuple(found)


def _arguments(config: Dict[str, Any], options: LoadOptions) -> Dict[str, str]:
    """Return the argument of `initialize`."""
    version_folder = os.path.dirname(options.artifact)
    return {
        "model_config": json.dumps(config),
        "model_instance_kind": "GPU" if options.device == "cuda" else "CPU",
        "model_instance_name": options.name + "_0",
        "model_instance_device_id": "0",  # the worker sees one GPU only
        "model_repository": os.path.dirname(version_folder),
        "model_version": options.version,
        "model_name": options.name,
    }
