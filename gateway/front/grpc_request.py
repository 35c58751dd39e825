"""ModelInferRequest -> InferRequest.

Clients send the same message again and again, with other data. What protobuf and the checks made
of a message without its data is remembered, and the next one like it costs neither.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, Message

from gateway.engine.protocol import Engine
from gateway.engine.types import InferRequest
from gateway.errors import InvalidRequest, Unsupported
from gateway.front.classification import read_class_count
from gateway.front.grpc_raw import Split, split_request
from gateway.front.grpc_tensors import read_typed
from gateway.front.parameters import DEFAULTS, read_options
from gateway.front.tensors import raw_tensor
from gateway.generated import open_inference_pb2 as pb
from runtimes.wire import Buffer, Tensor

_MOST_KNOWN = 1024
_LONGEST_KNOWN = 1024


class Wanted(NamedTuple):
    """How the client wants the outputs: raw, and some as so many classes."""

    raw: bool
    classes: Mapping[str, int] = {}


class _Known(NamedTuple):
    """A request but for its id, deadline and data. `inputs`: name, datatype, shape of each."""

    model: str
    version: str
    inputs: Sequence[tuple[str, str, tuple[int, ...]]]
    outputs: Sequence[str]
    wanted: Wanted


class RequestReader:
    """One for a server: it remembers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[bytes, _Known] = {}

    def read(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, Wanted]:
        """Where the answer is wanted raw, the tensors may be views of the message. Raises InvalidRequest, Unsupported.

        `seconds` is what the call's own deadline leaves; the sooner of it and the parameter `timeout` holds.
        """
        split = split_request(raw)
        if split is not None:
            known = self._known.get(split.head)
            if known is not None and len(known.inputs) == len(split.contents):
                model, version, described, outputs, wanted = known
                inputs = [Tensor(*what, data) for what, data in zip(described, split.contents, strict=True)]
                deadline = None if seconds is None else time.monotonic() + seconds
                return InferRequest(model, inputs, version, split.id, outputs, deadline=deadline), wanted
        message = parse(pb.ModelInferRequest, raw if split is None else split.head)
        contents = message.raw_input_contents if split is None else split.contents
        with self._engine.reading(message.model_name, message.model_version):
            request = _read(message, message.id if split is None else split.id, contents, seconds)
            wanted = Wanted(bool(contents), _classes(message))
        if split is not None:
            self._remember(split, message, request, wanted)
        return request, wanted

    def _remember(self, split: Split, message: pb.ModelInferRequest, request: InferRequest, wanted: Wanted) -> None:
        # A timeout counts from its request on, and of BOOL the data itself is checked.
        varies = message.parameters or any(tensor.datatype == "BOOL" for tensor in request.inputs)
        if varies or len(split.head) > _LONGEST_KNOWN:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        inputs = [tensor[:3] for tensor in request.inputs]
        self._known[split.head] = _Known(request.model, request.version, inputs, tuple(request.outputs), wanted)


def parse(kind: type[Message], raw: bytes) -> Any:
    """A message of this kind. Raises InvalidRequest."""
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise InvalidRequest(f"the message is not a valid {kind.DESCRIPTOR.full_name}") from None


def _read(message: pb.ModelInferRequest, name: str, contents: Sequence[Buffer], seconds: float | None) -> InferRequest:
    options = read_options(_parameters(message.parameters)) if message.parameters else DEFAULTS
    deadline = options.deadline
    if seconds is not None:
        deadline = min(time.monotonic() + seconds, deadline or float("inf"))
    return InferRequest(
        message.model_name,
        _raw_inputs(message.inputs, contents) if contents else [_typed_input(tensor) for tensor in message.inputs],
        message.model_version,
        name,
        [_output(output) for output in message.outputs],
        options.signature,
        options.priority,
        deadline,
    )


def _parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    found = {}
    for name, parameter in parameters.items():
        field = parameter.WhichOneof("parameter_choice")
        if field is not None:
            found[name] = getattr(parameter, field)
    return found


def _raw_inputs(inputs: Sequence[pb.ModelInferRequest.InferInputTensor], raw: Sequence[Buffer]) -> list[Tensor]:
    if len(raw) != len(inputs):
        raise InvalidRequest(f"there are {len(inputs)} inputs, but {len(raw)} raw_input_contents; send one for each")
    for tensor in inputs:
        _refuse_shared_memory(tensor)
        if tensor.HasField("contents") and tensor.contents.ListFields():
            raise InvalidRequest(f"input '{tensor.name}' has contents beside raw_input_contents; send only one of them")
    return [
        raw_tensor(tensor.name, tensor.datatype, tensor.shape, data) for tensor, data in zip(inputs, raw, strict=True)
    ]


def _typed_input(tensor: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    _refuse_shared_memory(tensor)
    return read_typed(tensor)


def _refuse_shared_memory(tensor: pb.ModelInferRequest.InferInputTensor) -> None:
    if "shared_memory_region" in tensor.parameters:
        raise Unsupported(f"input '{tensor.name}' is in shared memory, which is not served; send its data")


def _output(output: pb.ModelInferRequest.InferRequestedOutputTensor) -> str:
    if "shared_memory_region" in output.parameters:
        raise Unsupported(f"output '{output.name}' asks for shared_memory_region, which is not served")
    return output.name


def _classes(message: pb.ModelInferRequest) -> dict[str, int]:
    return {
        output.name: read_class_count(output.name, _parameters(output.parameters).get("classification"))
        for output in message.outputs
        if "classification" in output.parameters
    }
