"""Triton's form of a Python model: a class TritonPythonModel with `initialize`, `execute` and `finalize`."""

import json
import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from runtimes.checks import check_input, declared_inputs, declared_outputs, quoted, wanted_outputs
from runtimes.contract import (
    DATATYPES,
    BatchAnalysis,
    InvalidInput,
    LoadError,
    LoadOptions,
    Model,
    ModelFailed,
    Signature,
    TensorSpec,
    Unsupported,
)

from . import pb_utils
from .arrays import as_output, detached

_ERRORS = {pb_utils.TritonError.INVALID_ARG: InvalidInput, pb_utils.TritonError.UNSUPPORTED: Unsupported}


class TritonModel(Model):
    def __init__(self, model_class: Any, options: LoadOptions) -> None:
        if not hasattr(model_class, "execute"):
            raise LoadError("TritonPythonModel has no method execute; add it")
        self._name, self._version = options.name, int(options.version or 1)
        self._config = _completed(model_class, _configuration(options))
        self._signature = Signature(
            declared_inputs(options.inputs, _specs(self._config, "input")),
            declared_outputs(options.outputs, _specs(self._config, "output")),
            {},
            tuple(tensor["name"] for tensor in self._config["input"] if tensor.get("optional")),
        )
        self.signatures = {"default": self._signature}
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

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        specs = {spec.name: spec for spec in self._signature.outputs}
        wanted = wanted_outputs(outputs, list(specs))
        # Models may change the arrays of their inputs, which belong to the caller.
        left_out = [name for name in self._signature.optional if name not in inputs]
        specs_given = [spec for spec in self._signature.inputs if spec.name not in left_out]
        tensors = [pb_utils.Tensor(spec.name, check_input(spec, inputs).copy()) for spec in specs_given]
        request = pb_utils.InferenceRequest(self._name, wanted, tensors, model_version=self._version)
        response = _only(self._instance.execute([request]))
        error = response.error()
        if error is not None:
            code = error.code() if isinstance(error, pb_utils.TritonError) else None
            raise _ERRORS.get(code, ModelFailed)(str(error))
        arrays = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
        missing = [name for name in wanted if name not in arrays]
        if missing:
            raise ValueError("execute returned %s, but not %s" % (quoted(arrays), quoted(missing)))
        answer = {name: as_output(specs[name], arrays[name]) for name in wanted}
        return detached(answer, [tensor.as_numpy() for tensor in tensors])

    def close(self) -> None:
        if hasattr(self._instance, "finalize"):
            self._instance.finalize()


def _only(responses: Any) -> pb_utils.InferenceResponse:
    if not isinstance(responses, (list, tuple)):
        raise TypeError("execute returned %s, not a list of responses" % type(responses).__name__)
    if len(responses) != 1:
        raise ValueError("execute returned %d responses to one request" % len(responses))
    if not isinstance(responses[0], pb_utils.InferenceResponse):
        raise TypeError("execute returned %s, not an InferenceResponse" % type(responses[0]).__name__)
    return responses[0]


def _configuration(options: LoadOptions) -> Dict[str, Any]:
    """Return the configuration as Triton writes it in JSON, which leaves out the batch dimension."""
    max_rows = options.max_rows or 0
    kind = "KIND_GPU" if options.device == "cuda" else "KIND_CPU"
    config = {
        "name": options.name,
        "platform": "",
        "backend": "python",
        "max_batch_size": max_rows,
        "input": [_tensor(spec, max_rows, {"format": "FORMAT_NONE"}) for spec in options.inputs],
        "output": [_tensor(spec, max_rows, {"label_filename": ""}) for spec in options.outputs],
        "instance_group": [{"name": options.name + "_0", "kind": kind, "count": 1, "gpus": []}],
        "default_model_filename": os.path.basename(options.artifact),
        "parameters": {name: {"string_value": _text(value)} for name, value in options.parameters.items()},
    }  # type: Dict[str, Any]
    if max_rows and options.batches:
        config["dynamic_batching"] = {}
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
    if pb_utils.using_decoupled_model_transaction_policy(config):
        raise LoadError("the model sends several answers to a request (decoupled), which is not supported yet")
    return config


def _specs(config: Dict[str, Any], kind: str) -> Tuple[TensorSpec, ...]:
    batch = (-1,) if config["max_batch_size"] else ()
    found: List[TensorSpec] = []
    for tensor in config[kind]:
        datatype = tensor["data_type"].replace("TYPE_", "", 1)
        datatype = "BYTES" if datatype == "STRING" else datatype
        if datatype not in DATATYPES:
            raise LoadError("'%s' has the data_type %s, which is not supported" % (tensor["name"], tensor["data_type"]))
        found.append(TensorSpec(tensor["name"], datatype, batch + tuple(int(size) for size in tensor["dims"])))
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
