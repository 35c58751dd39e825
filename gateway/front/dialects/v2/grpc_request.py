"""Reads ModelInferRequest messages.

A client repeats the same message with different data. So the result of parsing and checking a message without its data
is cached, and the next message that is otherwise the same skips both.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.codecs.json_tensors import raw_tensor
from gateway.domain.shared_memory import RegionRange
from gateway.domain.types import InferRequest
from gateway.engine.protocol import Engine
from gateway.engine.validate import check_count
from gateway.errors import InvalidRequest
from gateway.front.base.grpc_method import parse
from gateway.front.base.parameters import DEFAULTS, OPTION_NAMES, read_options
from gateway.front.dialects.v2.classification import read_class_count
from gateway.front.dialects.v2.grpc_message import Split, split_request
from gateway.front.dialects.v2.grpc_tensors import read_typed
from gateway.front.dialects.v2.output_options import OutputOptions
from gateway.front.dialects.v2.shared_memory import REGION_PARAMETERS, read_region_range
from gateway.generated import open_inference_pb2 as pb
from runtimes.bounded_cache import BoundedCache
from runtimes.tensors import Buffer, Tensor

# The cache is shared by all clients of the front. With fewer entries, several hundred clients evict each other's; more
# entries, or longer ones, are memory that one client can fill.
_MAX_CACHED = 1024
_MAX_CACHED_LENGTH = 1024
# The parameters that are read. A message may have any number of others, so these are looked up one by one.
_PARAMETERS = (*OPTION_NAMES, *REGION_PARAMETERS, "classification")


class CachedRequest(NamedTuple):
    """A request without its id, deadline and data. `inputs` has the name, datatype and shape of each."""

    model: str
    version: str
    inputs: Sequence[tuple[str, str, tuple[int, ...]]]
    outputs: Sequence[str]
    output_options: OutputOptions


class RequestReader:
    """Reads requests, and caches the parts that they have in common. There is one per server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cache: BoundedCache[bytes, CachedRequest] = BoundedCache(_MAX_CACHED)

    def read(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, OutputOptions]:
        """Read a message. The tensors may be views of it. Raises InvalidRequest, Unsupported.

        `seconds` is the time until the call's deadline. The deadline or the parameter `timeout` applies, whichever is
        sooner.
        """
        split = split_request(raw)
        if split is not None:
            cached = self._cache.entries.get(split.head)
            if cached is not None and len(cached.inputs) == len(split.contents):
                model, version, specs, outputs, output_options = cached
                inputs = [Tensor(*spec, data) for spec, data in zip(specs, split.contents, strict=True)]
                deadline = None if seconds is None else time.monotonic() + seconds
                return InferRequest(model, inputs, version, split.id, outputs, deadline=deadline), output_options
        message = parse(pb.ModelInferRequest, raw if split is None else split.head)
        contents = message.raw_input_contents if split is None else split.contents
        with self._engine.reserve_body(message.model_name, message.model_version):
            check_count(len(message.inputs), "inputs")
            check_count(len(message.outputs), "outputs")
            inputs = _inputs(message.model_name, message.inputs, contents, self._engine.shared_memory.reader())
            request = _read(message, message.id if split is None else split.id, inputs, seconds)
            output_options = _output_options(message.outputs)
        if split is not None:
            self._put(split, message, request, output_options)
        return request, output_options

    def _put(self, split: Split, message: pb.ModelInferRequest, request: InferRequest, options: OutputOptions) -> None:
        """Cache the request, unless another one with the same head must be read differently."""
        # A parameter `timeout` starts with its own request, and the data of a BOOL input must be checked.
        varies = message.parameters or any(tensor.datatype == "BOOL" for tensor in request.inputs)
        varies = varies or len(request.inputs) != len(split.contents)
        if varies or len(split.head) > _MAX_CACHED_LENGTH:
            return
        inputs = [tensor[:3] for tensor in request.inputs]
        cached = CachedRequest(request.model, request.version, inputs, tuple(request.outputs), options)
        self._cache.put(split.head, cached)


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
    read_shared: Callable[[RegionRange], bytes],
) -> list[Tensor]:
    ranges = [_region_range(tensor.parameters, f"input '{tensor.name}'") for tensor in inputs]
    for tensor, region_range in zip(inputs, ranges, strict=True):
        if (contents or region_range is not None) and tensor.HasField("contents") and tensor.contents.ListFields():
            other = "raw_input_contents" if region_range is None else "a shared_memory_region"
            # Triton's wording, which its clients look for.
            raise InvalidRequest(
                f"contents field must not be specified when using {other} for '{tensor.name}' for model '{model}'"
            )
    count = ranges.count(None)
    if contents and len(contents) != count:
        raise InvalidRequest(f"there are {count} inputs, but {len(contents)} raw_input_contents; send one for each")
    rest = iter(contents)
    tensors = []
    for tensor, region_range in zip(inputs, ranges, strict=True):
        if region_range is not None:
            data: Buffer = read_shared(region_range)
        elif contents:
            data = next(rest)
        else:
            tensors.append(read_typed(tensor))
            continue
        tensors.append(raw_tensor(tensor.name, tensor.datatype, tensor.shape, data))
    return tensors


def _output_options(outputs: Sequence[pb.ModelInferRequest.InferRequestedOutputTensor]) -> OutputOptions:
    class_counts: dict[str, int] = {}
    region_ranges: dict[str, RegionRange] = {}
    for output in outputs:
        if "classification" in output.parameters:
            count = _parameters(output.parameters).get("classification")
            class_counts[output.name] = read_class_count(output.name, count)
        region_range = _region_range(output.parameters, f"output '{output.name}'")
        if region_range is not None:
            region_ranges[output.name] = region_range
    return OutputOptions(class_counts=class_counts, region_ranges=region_ranges)


def _region_range(parameters: Mapping[str, pb.InferParameter], tensor: str) -> RegionRange | None:
    return read_region_range(_parameters(parameters), tensor) if parameters else None
