"""ModelInferRequest -> InferRequest.

Clients send the same message again and again, with other data. What protobuf and the checks made
of a message without its data is remembered, and the next one like it costs neither.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.codecs.json_tensors import raw_tensor
from gateway.domain.shared_memory import Place
from gateway.domain.types import InferRequest
from gateway.engine.protocol import Engine
from gateway.engine.validate import check_count
from gateway.errors import InvalidRequest
from gateway.front.base.grpc_method import parse
from gateway.front.base.parameters import DEFAULTS, OPTION_NAMES, read_options
from gateway.front.dialects.v2.classification import read_class_count
from gateway.front.dialects.v2.grpc_message import Split, split_request
from gateway.front.dialects.v2.grpc_tensors import read_typed
from gateway.front.dialects.v2.shared_memory import PLACE_NAMES, read_place
from gateway.generated import open_inference_pb2 as pb
from runtimes.bounded_cache import BoundedCache
from runtimes.tensors import Buffer, Tensor

_MAX_KNOWN = 1024
_MAX_KNOWN_LENGTH = 1024
# The parameters that mean something here; there may be a million of others.
_PARAMETERS = (*OPTION_NAMES, *PLACE_NAMES, "classification")


class Wanted(NamedTuple):
    """How the client wants the outputs: some as so many classes, some in shared memory."""

    classes: Mapping[str, int] = {}
    places: Mapping[str, Place] = {}


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
        self._known: BoundedCache[bytes, _Known] = BoundedCache(_MAX_KNOWN)

    def read(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, Wanted]:
        """The tensors may be views of the message. Raises InvalidRequest, Unsupported.

        `seconds` is what the call's own deadline leaves; the sooner of it and the parameter `timeout` holds.
        """
        split = split_request(raw)
        if split is not None:
            known = self._known.entries.get(split.head)
            if known is not None and len(known.inputs) == len(split.contents):
                model, version, described, outputs, wanted = known
                inputs = [Tensor(*what, data) for what, data in zip(described, split.contents, strict=True)]
                deadline = None if seconds is None else time.monotonic() + seconds
                return InferRequest(model, inputs, version, split.id, outputs, deadline=deadline), wanted
        message = parse(pb.ModelInferRequest, raw if split is None else split.head)
        contents = message.raw_input_contents if split is None else split.contents
        with self._engine.reserve_body(message.model_name, message.model_version):
            check_count(len(message.inputs), "inputs")
            check_count(len(message.outputs), "outputs")
            inputs = _inputs(message.model_name, message.inputs, contents, self._engine.shared_memory.reader())
            request = _read(message, message.id if split is None else split.id, inputs, seconds)
            wanted = _wanted(message.outputs)
        if split is not None:
            self._remember(split, message, request, wanted)
        return request, wanted

    def _remember(self, split: Split, message: pb.ModelInferRequest, request: InferRequest, wanted: Wanted) -> None:
        # A timeout counts from its request on, and of BOOL the data itself is checked.
        varies = message.parameters or any(tensor.datatype == "BOOL" for tensor in request.inputs)
        varies = varies or len(request.inputs) != len(split.contents)
        if varies or len(split.head) > _MAX_KNOWN_LENGTH:
            return
        inputs = [tensor[:3] for tensor in request.inputs]
        known = _Known(request.model, request.version, inputs, tuple(request.outputs), wanted)
        self._known.put(split.head, known)


def _read(message: pb.ModelInferRequest, name: str, inputs: Sequence[Tensor], seconds: float | None) -> InferRequest:
    options = read_options(_parameters(message.parameters)) if message.parameters else DEFAULTS
    deadline = options.deadline
    if seconds is not None:
        deadline = min(time.monotonic() + seconds, deadline or float("inf"))
    return InferRequest(
        message.model_name,
        inputs,
        message.model_version,
        name,
        [output.name for output in message.outputs],
        options.signature,
        options.priority,
        deadline,
    )


def _parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    found = {}
    for name in _PARAMETERS:
        if name in parameters:
            field = parameters[name].WhichOneof("parameter_choice")
            if field is not None:
                found[name] = getattr(parameters[name], field)
    return found


def _inputs(
    model: str,
    inputs: Sequence[pb.ModelInferRequest.InferInputTensor],
    contents: Sequence[Buffer],
    read_shared: Callable[[Place], bytes],
) -> list[Tensor]:
    places = [_place(tensor.parameters, f"input '{tensor.name}'") for tensor in inputs]
    for tensor, place in zip(inputs, places, strict=True):
        if (contents or place is not None) and tensor.HasField("contents") and tensor.contents.ListFields():
            other = "raw_input_contents" if place is None else "a shared_memory_region"
            # Triton's words, which its clients look for.
            raise InvalidRequest(
                f"contents field must not be specified when using {other} for '{tensor.name}' for model '{model}'"
            )
    sent = places.count(None)
    if contents and len(contents) != sent:
        raise InvalidRequest(f"there are {sent} inputs, but {len(contents)} raw_input_contents; send one for each")
    rest = iter(contents)
    tensors = []
    for tensor, place in zip(inputs, places, strict=True):
        if place is not None:
            data: Buffer = read_shared(place)
        elif contents:
            data = next(rest)
        else:
            tensors.append(read_typed(tensor))
            continue
        tensors.append(raw_tensor(tensor.name, tensor.datatype, tensor.shape, data))
    return tensors


def _wanted(outputs: Sequence[pb.ModelInferRequest.InferRequestedOutputTensor]) -> Wanted:
    classes: dict[str, int] = {}
    places: dict[str, Place] = {}
    for output in outputs:
        if "classification" in output.parameters:
            classes[output.name] = read_class_count(output.name, _parameters(output.parameters).get("classification"))
        place = _place(output.parameters, f"output '{output.name}'")
        if place is not None:
            places[output.name] = place
    return Wanted(classes, places)


def _place(parameters: Mapping[str, pb.InferParameter], what: str) -> Place | None:
    return read_place(_parameters(parameters), what) if parameters else None
