"""Reads ModelInferRequest messages.

Two messages of a client often have the same inputs and outputs, but for the data. So what was read from these fields
is kept, and looked up by their bytes. Parameters are parsed each time, because timeouts differ. `_read_any` reads
messages in an unusual encoding, and rejects whatever is wrong.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from gateway.codecs.json_tensors import CHECKED, raw_tensor
from gateway.domain.shared_memory import RegionRange
from gateway.domain.types import InferRequest
from gateway.engine.protocol import Engine
from gateway.engine.validate import check_count
from gateway.errors import InvalidRequest, ModelportError
from gateway.front.base.grpc_method import parse
from gateway.front.base.parameters import DEFAULTS, Options, read_options
from gateway.front.dialects.v2.classification import read_class_count
from gateway.front.dialects.v2.grpc_message import split_request, split_usual
from gateway.front.dialects.v2.grpc_tensors import read_typed
from gateway.front.dialects.v2.output_options import OutputOptions
from gateway.front.dialects.v2.shared_memory import REGION_PARAMETERS, read_region_range
from gateway.generated import open_inference_pb2 as pb
from runtimes.bounded_cache import BoundedCache
from runtimes.layouts import TensorLayout, by_identity, new_layout
from runtimes.tensors import Buffer, Tensor

# The cache is shared by all clients of the front. With fewer entries, several hundred clients evict each other's; more
# entries are memory that one client can fill. split_usual limits the length of an entry.
_MAX_CACHED = 1024


class _Form(NamedTuple):
    """The inputs and outputs of a request, without the data.

    order                     the positions of the inputs in a message, if they are not sorted by name
    names, datatypes, shapes  of the inputs, sorted by name
    sizes                     of the data when the form was cached; -1 for strings
    layout                    with these sizes, these outputs and no signature
    """

    order: Sequence[int] | None
    names: Sequence[str]
    datatypes: Sequence[str]
    shapes: Sequence[tuple[int, ...]]
    sizes: Sequence[int]
    layout: TensorLayout | None
    outputs: Sequence[str]
    output_options: OutputOptions


class RequestReader:
    """Reads requests, and caches the parts that they have in common. There is one per server."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._forms: BoundedCache[bytes, _Form] = BoundedCache(_MAX_CACHED)

    def read(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, OutputOptions]:
        """Read a message. The tensors may be views of it. Raises InvalidRequest, Unsupported.

        `seconds` is the time until the call's deadline. The deadline or the parameter `timeout` applies, whichever is
        sooner.
        """
        parts = split_usual(raw)
        if parts is None:
            return self._read_any(raw, seconds)
        model, version, request_id, parameters, described, contents = parts
        options = DEFAULTS
        try:
            if parameters:
                options = _read_options(pb.ModelInferRequest.FromString(parameters))
        except (DecodeError, ModelportError):
            return self._read_any(raw, seconds)
        form = self.form(described, contents)
        if form is None or len(form.names) != len(contents):
            return self._read_any(raw, seconds)
        order, names, datatypes, shapes, sizes, layout, outputs, output_options = form
        if order is not None:
            contents = [contents[index] for index in order]
        priority, deadline, signature, own, sequence = options
        if seconds is not None:
            deadline = _sooner(deadline, seconds)
        if signature or not (sizes == [*map(len, contents)] or _fits(sizes, contents)):
            layout = None
        inputs = [*map(Tensor, names, datatypes, shapes, contents)]
        request = InferRequest(
            model, inputs, version, request_id, outputs, signature, priority, deadline, layout, None, own, sequence
        )
        return request, output_options

    def form(self, described: bytes, contents: Sequence[Buffer]) -> _Form | None:
        """Return what is known of messages with these fields of inputs and outputs, and contents that fit them."""
        try:
            return self._forms.entries.get(described) or self._learn(described, contents)
        except (DecodeError, ModelportError):
            return None

    def _learn(self, described: bytes, contents: Sequence[Buffer]) -> _Form | None:
        """Read the fields of inputs and outputs, and cache them. Raises DecodeError, ModelportError.

        Returns None if there are no inputs, if they have anything but a name, datatype and shape, or if their data must
        be checked.
        """
        message = pb.ModelInferRequest.FromString(described)
        if not contents or len(message.inputs) != len(contents):
            return None
        if any(each.parameters or each.HasField("contents") or each.datatype in CHECKED for each in message.inputs):
            return None
        inputs = [
            raw_tensor(each.name, each.datatype, each.shape, data)
            for each, data in zip(message.inputs, contents, strict=True)
        ]
        # Clients that write a map have any order. In one order, their requests have one layout and share frames.
        order = sorted(range(len(inputs)), key=lambda index: inputs[index].name)
        inputs = [inputs[index] for index in order]
        outputs = tuple([each.name for each in message.outputs])
        layout = by_identity(new_layout("", outputs, inputs))
        names, datatypes, shapes, _ = zip(*inputs, strict=True)
        sizes = [size for _, _, _, size in layout[2]]
        form = _Form(
            None if order == sorted(order) else order,
            names,
            datatypes,
            shapes,
            sizes,
            layout,
            outputs,
            _output_options(message.outputs),
        )
        self._forms.put(described, form)
        return form

    def _read_any(self, raw: bytes, seconds: float | None) -> tuple[InferRequest, OutputOptions]:
        split = split_request(raw)
        message = parse(pb.ModelInferRequest, raw if split is None else split.head)
        contents = message.raw_input_contents if split is None else split.contents
        with self._engine.reserve_body(message.model_name, message.model_version):
            check_count(len(message.inputs), "inputs")
            check_count(len(message.outputs), "outputs")
            inputs = _inputs(message.model_name, message.inputs, contents, self._engine.shared_memory.reader())
            request = _read(message, message.id if split is None else split.id, inputs, seconds)
            return request, _output_options(message.outputs)


def _fits(sizes: Sequence[int], contents: Sequence[Buffer]) -> bool:
    return all(size in (-1, len(data)) for size, data in zip(sizes, contents, strict=True))


def _read(message: pb.ModelInferRequest, name: str, inputs: Sequence[Tensor], seconds: float | None) -> InferRequest:
    options = _read_options(message) if message.parameters else DEFAULTS
    if seconds is not None:
        options = options._replace(deadline=_sooner(options.deadline, seconds))
    outputs = [output.name for output in message.outputs]
    return options.request(message.model_name, message.model_version, inputs, name, outputs)


def _sooner(deadline: float | None, seconds: float) -> float:
    """Return the deadline, or the time in `seconds` seconds if that is sooner."""
    return min(time.monotonic() + seconds, deadline or float("inf"))


def _read_options(message: pb.ModelInferRequest) -> Options:
    """Raises InvalidRequest."""
    return read_options(_parameters(message.parameters, message.parameters))


def _parameters(parameters: Mapping[str, pb.InferParameter], names: Iterable[str]) -> dict[str, Any]:
    """Return those of these names, without those that have no value."""
    found = {}
    for name in names:
        if name in parameters:
            parameter = parameters[name]
            field = parameter.WhichOneof("parameter_choice")
            if field is not None:
                found[name] = getattr(parameter, field)
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
            count = _parameters(output.parameters, ("classification",)).get("classification")
            class_counts[output.name] = read_class_count(output.name, count)
        region_range = _region_range(output.parameters, f"output '{output.name}'")
        if region_range is not None:
            region_ranges[output.name] = region_range
    return OutputOptions(class_counts=class_counts, region_ranges=region_ranges)


def _region_range(parameters: Mapping[str, pb.InferParameter], tensor: str) -> RegionRange | None:
    return read_region_range(_parameters(parameters, REGION_PARAMETERS), tensor) if parameters else None
