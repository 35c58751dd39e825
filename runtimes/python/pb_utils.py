"""The module `triton_python_backend_utils` for models in Triton's form, written from Triton's public documentation.

What is not supported raises an error that says so: requests to other models (BLS), several answers to a request
(decoupled), metrics of the model's own, and the parameters of a request.
"""

from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from runtimes.contract import DATATYPES, Unsupported

from .arrays import encoded

# TRITONSERVER_DataType, by its numbers.
_NUMBERED = (
    "", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
    "BYTES",
)  # fmt: skip
_NUMPY = {name: np.object_ if name == "BYTES" else np.dtype(each.typestr).type for name, each in DATATYPES.items()}
TRITON_STRING_TO_NUMPY = {"TYPE_" + ("STRING" if name == "BYTES" else name): kind for name, kind in _NUMPY.items()}
TRITON_STRING_TO_NUMPY["TYPE_BOOL"] = bool

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2


class TritonModelException(Exception):
    """For models to raise."""


class TritonError:
    """Why one request failed, in words for its client."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message = str(message)
        self._code = code

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code

    def __str__(self) -> str:
        return self._message


class Tensor:
    """A named array. Texts may be given as str; `as_numpy` has bytes."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        if not isinstance(array, np.ndarray):
            raise TritonModelException("Tensor '%s' is made of %s, not of a numpy array" % (name, type(array).__name__))
        self._name = name
        self._array = encoded(array) if array.dtype.kind in "SUO" else array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array

    def shape(self) -> List[int]:
        return list(self._array.shape)

    def triton_dtype(self) -> int:
        """Return its number in TRITONSERVER_DataType."""
        return numpy_to_triton_type(self._array.dtype.type)

    def is_cpu(self) -> bool:
        return True

    def to_dlpack(self) -> Any:
        return self._array.__dlpack__()

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> "Tensor":
        """Return a tensor of what another framework exports, in main memory."""
        return Tensor(name, np.from_dlpack(tensor if hasattr(tensor, "__dlpack__") else _Capsule(tensor)))


class _Capsule:
    """What torch.utils.dlpack.to_dlpack returns, in the form that numpy takes."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> Any:
        return 1, 0  # main memory


class InferenceRequest:
    """A request, or the rows of several requests that run together."""

    def __init__(
        self,
        model_name: str = "",
        requested_output_names: Sequence[str] = (),
        inputs: Sequence[Tensor] = (),
        request_id: str = "",
        correlation_id: int = 0,
        model_version: int = -1,
        flags: int = 0,
        **others: Any,
    ) -> None:
        self._model_name = model_name
        self._outputs = list(requested_output_names)
        self._inputs = list(inputs)
        self._request_id = request_id
        self._correlation_id = correlation_id
        self._model_version = model_version
        self._flags = flags

    def inputs(self) -> List[Tensor]:
        return self._inputs

    def requested_output_names(self) -> List[str]:
        return self._outputs

    def model_name(self) -> str:
        return self._model_name

    def model_version(self) -> int:
        return self._model_version

    def request_id(self) -> str:
        """Return "": a worker does not get the ids of clients."""
        return self._request_id

    def correlation_id(self) -> int:
        return self._correlation_id

    def flags(self) -> int:
        return self._flags

    def set_flags(self, flags: int) -> None:
        self._flags = flags

    def is_cancelled(self) -> bool:
        return False  # a request that has begun is not interrupted

    def parameters(self) -> str:
        raise Unsupported("the model reads the parameters of requests, which is not supported yet")

    def get_response_sender(self) -> Any:
        raise Unsupported("the model sends several answers to a request (decoupled), which is not supported yet")

    def exec(self, decoupled: bool = False) -> Any:
        raise Unsupported("the model sends requests to other models (BLS), which is not supported yet")

    async_exec = stream_exec = exec


class InferenceResponse:
    """The outputs of a request, or why there are none."""

    def __init__(self, output_tensors: Sequence[Tensor] = (), error: Optional[TritonError] = None) -> None:
        self._outputs = list(output_tensors)
        self._error = error

    def output_tensors(self) -> List[Tensor]:
        return self._outputs

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> Optional[TritonError]:
        return self._error


class MetricFamily:
    COUNTER, GAUGE, HISTOGRAM = range(3)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise TritonModelException("the model has metrics of its own, which are not supported yet")


class Logger:
    """Writes to the gateway's log, with the model's name. Verbose lines are left out."""

    INFO, WARNING, ERROR, VERBOSE = range(4)
    _NAMES = ("INFO", "WARNING", "ERROR")

    @staticmethod
    def log(message: str, level: int = INFO) -> None:
        if level != Logger.VERBOSE:
            print("%s: %s" % (Logger._NAMES[level], message))

    @staticmethod
    def log_info(message: str) -> None:
        Logger.log(message, Logger.INFO)

    @staticmethod
    def log_warn(message: str) -> None:
        Logger.log(message, Logger.WARNING)

    @staticmethod
    def log_error(message: str) -> None:
        Logger.log(message, Logger.ERROR)

    @staticmethod
    def log_verbose(message: str) -> None:
        Logger.log(message, Logger.VERBOSE)


class ModelConfig:
    """The model's configuration, which `auto_complete_config` completes. Raises ValueError for contradictions."""

    def __init__(self, model_config: Dict[str, Any]) -> None:
        self._config = model_config

    def as_dict(self) -> Dict[str, Any]:
        return self._config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        present = self._config["max_batch_size"]
        if present and present != max_batch_size:
            raise ValueError(
                "auto_complete_config sets max_batch_size to %d, but the model's configuration has %d"
                % (max_batch_size, present)
            )
        self._config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        self._config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, transaction_policy_dict: Dict[str, Any]) -> None:
        unknown = sorted(set(transaction_policy_dict) - {"decoupled"})
        if unknown:
            raise ValueError("a transaction policy has no '%s', only 'decoupled'" % unknown[0])
        self._config["model_transaction_policy"] = dict(transaction_policy_dict)

    def add_input(self, input: Dict[str, Any]) -> None:
        self._add("input", input, ("name", "data_type", "dims", "optional"))

    def add_output(self, output: Dict[str, Any]) -> None:
        self._add("output", output, ("name", "data_type", "dims"))

    def _add(self, kind: str, tensor: Dict[str, Any], keys: Sequence[str]) -> None:
        unknown = [key for key in tensor if key not in keys]
        missing = [key for key in ("name", "data_type", "dims") if key not in tensor]
        if unknown or missing:
            problem = "has no '%s'" % missing[0] if missing else "has the unknown key '%s'" % unknown[0]
            raise ValueError("an %s that auto_complete_config adds %s" % (kind, problem))
        for present in self._config[kind]:
            if present["name"] == tensor["name"]:
                for key in ("data_type", "dims"):
                    if present.get(key) and list(present[key]) != list(tensor[key]):
                        raise ValueError(
                            "auto_complete_config gives %s '%s' the %s %s, but the model's configuration has %s"
                            % (kind, tensor["name"], key, tensor[key], present[key])
                        )
                present.update(tensor)
                return
        self._config[kind].append(dict(tensor))


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Optional[Tensor]:
    return _by_name(inference_request.inputs(), name)


def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Optional[Tensor]:
    return _by_name(inference_response.output_tensors(), name)


def _by_name(tensors: Sequence[Tensor], name: str) -> Optional[Tensor]:
    return next((tensor for tensor in tensors if tensor.name() == name), None)


def get_input_config_by_name(model_config: Dict[str, Any], name: str) -> Optional[Dict[str, Any]]:
    return next((each for each in model_config.get("input", ()) if each["name"] == name), None)


def get_output_config_by_name(model_config: Dict[str, Any], name: str) -> Optional[Dict[str, Any]]:
    return next((each for each in model_config.get("output", ()) if each["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: Dict[str, Any]) -> bool:
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def triton_string_to_numpy(triton_type_string: str) -> Any:
    """ "TYPE_FP32" → numpy.float32."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def triton_to_numpy_type(data_type: int) -> Any:
    """A number of TRITONSERVER_DataType → numpy's type."""
    return _NUMPY[_NUMBERED[data_type]]


def numpy_to_triton_type(data_type: Any) -> int:
    """Return the number in TRITONSERVER_DataType. Raises KeyError if there is none."""
    wanted = np.dtype(data_type)
    for name, kind in _NUMPY.items():
        if wanted == np.dtype(kind):
            return _NUMBERED.index(name)
    raise KeyError(wanted)
