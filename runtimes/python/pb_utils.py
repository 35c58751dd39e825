"""The module `triton_python_backend_utils` for models in Triton's form, written from Triton's public documentation.

What is not supported raises an error that says so: metrics of the model's own.
"""

import json
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import numpy as np

from runtimes.contract import ModelFailed, ResponseSender, has_dtype, numpy_dtype

from . import dlpack
from .arrays import encoded

# TRITONSERVER_DataType, by its numbers.
_NUMBERED = (
    "", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
    "BYTES", "BF16",
)  # fmt: skip
_NUMPY = {
    name: np.object_ if name == "BYTES" else numpy_dtype(name).type for name in _NUMBERED if name and has_dtype(name)
}
TRITON_STRING_TO_NUMPY = {"TYPE_" + ("STRING" if name == "BYTES" else name): kind for name, kind in _NUMPY.items()}
TRITON_STRING_TO_NUMPY["TYPE_BOOL"] = bool

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2
TRITONSERVER_MEMORY_CPU, TRITONSERVER_MEMORY_CPU_PINNED, TRITONSERVER_MEMORY_GPU = range(3)


class TritonModelException(ModelFailed):
    """For models to raise. As in Triton, the message goes to the client."""


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
        return dlpack.export(self._array) if dlpack.is_bfloat16(self._array) else self._array.__dlpack__()

    def __dlpack__(self, **options: Any) -> Any:
        if dlpack.is_bfloat16(self._array):
            return dlpack.export(self._array)
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> "Tensor":
        """Return a tensor of what another framework exports, in main memory."""
        return Tensor(name, dlpack.as_array(tensor))


class PreferredMemory:
    """Where a model would like its outputs. Here, they are in main memory, whatever it prefers."""

    def __init__(self, preferred_memory_type: int = 0, preferred_device_id: int = 0) -> None:
        self.preferred_memory_type, self.preferred_device_id = preferred_memory_type, preferred_device_id


class InferenceRequest:
    """A request."""

    def __init__(
        self,
        model_name: str = "",
        requested_output_names: Sequence[str] = (),
        inputs: Sequence[Tensor] = (),
        request_id: str = "",
        correlation_id: Union[int, str] = 0,
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: Optional[PreferredMemory] = None,
        trace: Any = None,
        parameters: Union[Dict[str, Any], str, None] = None,
    ) -> None:
        """timeout: in microseconds; 0 for none. parameters: a dictionary, or its JSON."""
        self._model_name = model_name
        self._outputs = list(requested_output_names)
        self._inputs = list(inputs)
        self._request_id = request_id
        self._correlation_id = correlation_id
        self._model_version = model_version
        self._flags = flags
        self._timeout = timeout
        self._preferred_memory = preferred_memory or PreferredMemory()
        self._trace = trace
        self._parameters = dict(json.loads(parameters) if isinstance(parameters, str) else parameters or {})
        # Only of a request that a client has sent.
        self.sender: Optional[InferenceResponseSender] = None

    @property
    def sender_is_taken(self) -> bool:
        return self.sender is not None and self.sender.taken

    def inputs(self) -> List[Tensor]:
        return self._inputs

    def requested_output_names(self) -> List[str]:
        return self._outputs

    def model_name(self) -> str:
        return self._model_name

    def model_version(self) -> int:
        return self._model_version

    def request_id(self) -> str:
        """Return the client's own; "" if it sent none."""
        return self._request_id

    def correlation_id(self) -> Union[int, str]:
        """Return the id of the sequence; 0 if the request belongs to none."""
        return self._correlation_id

    def timeout(self) -> int:
        """Return how many microseconds its client waits; 0 for as long as it takes."""
        return self._timeout

    def preferred_memory(self) -> PreferredMemory:
        return self._preferred_memory

    def set_preferred_memory(self, preferred_memory: PreferredMemory) -> None:
        self._preferred_memory = preferred_memory

    def trace(self) -> Any:
        return self._trace

    def flags(self) -> int:
        return self._flags

    def set_flags(self, flags: int) -> None:
        self._flags = flags

    def is_cancelled(self) -> bool:
        """Return whether nobody waits for the answer any more."""
        return self.sender is not None and self.sender.is_cancelled()

    def parameters(self) -> str:
        """Return the client's own parameters as JSON."""
        return json.dumps(self._parameters)

    def get_response_sender(self) -> "InferenceResponseSender":
        if self.sender is None:
            raise TritonModelException("only a request that execute has got has a response sender")
        self.sender.taken = True
        return self.sender

    def exec(self, decoupled: bool = False) -> Any:
        """Send the request to its model, wait, and return the response; if `decoupled`, an iterator over responses."""
        from . import bls

        return bls.execute(self, decoupled)

    def async_exec(self, decoupled: bool = False) -> Any:
        """Send the request, and return what to await for the response, or for the iterator if `decoupled`."""
        from . import bls

        return bls.begin_async(self, decoupled)


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


class InferenceResponseSender:
    """Sends the responses to a request, from any thread.

    taken   whether the model has asked for it
    closed  whether the last response has been sent
    """

    def __init__(self, sender: ResponseSender, convert: Callable[[InferenceResponse], Any]) -> None:
        """`convert` returns a response's outputs, or raises what the request fails with."""
        self._sender, self._convert = sender, convert
        self.taken = self.closed = self._failed = False

    def is_cancelled(self) -> bool:
        return self._sender.cancelled

    def send(self, response: Optional[InferenceResponse] = None, flags: int = 0) -> None:
        """Send a response, and with TRITONSERVER_RESPONSE_COMPLETE_FINAL, end the request. One of both is needed."""
        if flags not in (0, TRITONSERVER_RESPONSE_COMPLETE_FINAL):
            raise TritonModelException("a response sender knows no flags but TRITONSERVER_RESPONSE_COMPLETE_FINAL")
        if self.closed:
            raise TritonModelException("the response sender has been closed: its last response had the final flag")
        if response is None and not flags:
            raise TritonModelException("a response sender needs a response, or the final flag")
        self.closed = bool(flags)
        if self._failed:
            return  # the client has got the error, which was the last answer
        try:
            if response is not None:
                self._send(response)
            if flags and not self._failed:
                self._sender.end()
        except RuntimeError as error:
            raise TritonModelException(str(error)) from error

    def _send(self, response: InferenceResponse) -> None:
        try:
            outputs = self._convert(response)
        except Exception as error:
            self._failed = True
            self._sender.fail(error)
            return
        self._sender.send(outputs)

    def abandon(self, reason: str) -> None:
        """Fail the request unless it has ended."""
        if not (self.closed or self._failed):
            self.closed = True
            try:
                self._sender.fail(RuntimeError(reason))
            except RuntimeError:
                pass  # it has ended otherwise

    def __del__(self) -> None:
        if self.taken:
            self.abandon("the model has dropped a response sender without sending the final flag")


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
