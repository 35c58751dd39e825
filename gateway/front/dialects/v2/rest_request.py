"""The Open Inference Protocol over REST: reads requests."""

import struct
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from gateway.codecs.json_tensors import raw_tensor, read_tensor
from gateway.codecs.json_text import loads
from gateway.domain.shared_memory import RegionRange, SharedMemory
from gateway.domain.tensor_checks import check_datatype, check_shape
from gateway.domain.types import InferRequest
from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.engine.protocol import Engine
from gateway.engine.validate import check_count
from gateway.errors import InvalidRequest
from gateway.front.base.parameters import read_options
from gateway.front.dialects.v2 import rest_forms
from gateway.front.dialects.v2.classification import read_class_count
from gateway.front.dialects.v2.known_input import KnownInput
from gateway.front.dialects.v2.output_options import ALL_BINARY, ALL_JSON, OutputOptions
from gateway.front.dialects.v2.raw_request import read_raw
from gateway.front.dialects.v2.shared_memory import read_region_range
from runtimes.bounded_cache import BoundedCache
from runtimes.tensors import Buffer, Tensor

_TYPE_NAMES = {str: "a string", list: "a list", dict: "an object", bool: "true or false", int: "a whole number"}
ReadShared = Callable[[RegionRange], bytes]
_NOTHING: Mapping[str, Any] = {}
_INTEGER = frozenset({int})
_MAX_KNOWN_INPUTS = 1024
# Further inputs of one request are not looked up: models in use have fewer, and caching more would evict others.
_MAX_KNOWN_PER_REQUEST = 32
# JSON that is longer than the tensors by more than this is freed while its request waits, which costs a copy of them.
MAX_UNCOUNTED = 1 << 12


_known_inputs: BoundedCache[tuple[Any, ...], KnownInput] = BoundedCache(_MAX_KNOWN_INPUTS)


def read_request(
    engine: Engine, model: str, version: str, body: Buffer, json_length: int | None
) -> tuple[InferRequest, OutputOptions]:
    """Read a request. `json_length` is the header Inference-Header-Content-Length, if the request has it.

    The tensors are views of the body. Raises InvalidRequest, Unsupported, NotFound.
    """
    if json_length == 0:
        return InferRequest(model, [read_raw(engine.model(model, version), body)], version), ALL_BINARY
    text, sections = _small_parts(body, json_length)
    found = rest_forms.read(model, version, text, sections) if text else None
    if found is not None:
        return found
    document, rest = (loads(body), None) if json_length is None else _split(body, json_length)
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object with 'inputs'")
    request, options = _read_document(engine, model, version, document, rest)
    if text:
        rest_forms.learn(text, document, request, options)
    return request, options


def _small_parts(body: Buffer, json_length: int | None) -> tuple[bytes, Buffer]:
    """Return the JSON, if it is short, and the rest of a body; otherwise no bytes."""
    if json_length is None:
        return (body, b"") if isinstance(body, bytes) and len(body) < MIN_ARENA_BYTES else (b"", b"")
    if json_length <= len(body) and json_length <= MAX_UNCOUNTED:
        # The rest of a large body, which is a block of the arena, must not be copied.
        rest = body[json_length:] if len(body) < MIN_ARENA_BYTES else memoryview(body)[json_length:]
        return bytes(body[:json_length]), rest
    return b"", b""


def _read_document(
    engine: Engine, model: str, version: str, document: dict[str, Any], rest: "_Sections | None"
) -> tuple[InferRequest, OutputOptions]:
    parameters = _get(document, "parameters", dict, _NOTHING, "the request")
    options = read_options(parameters)
    inputs = _inputs(_get(document, "inputs", list, None, "the request"), rest, engine.shared_memory)
    names, output_options = _outputs(document, parameters)
    request_id = _get(document, "id", str, "", "the request")
    return options.request(model, version, inputs, request_id, names), output_options


class _Sections:
    """The bytes after the JSON, which `take` returns tensor by tensor."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def take(self, name: str, size: int) -> memoryview:
        left = len(self._data) - self._position
        if size < 0 or size > left:
            raise InvalidRequest(
                f"input '{name}' has binary_data_size {size}, but {left} bytes of the body are left for it"
            )
        start, self._position = self._position, self._position + size
        return self._data[start : self._position]

    def finish(self) -> None:
        left = len(self._data) - self._position
        if left:
            raise InvalidRequest(f"the body has {left} bytes after the last input; binary_data_size must cover all")


def _split(body: Buffer, json_length: int) -> tuple[Any, _Sections]:
    if json_length > len(body):
        raise InvalidRequest(f"Inference-Header-Content-Length is {json_length}, but the body has {len(body)} bytes")
    view = memoryview(body)
    tensors = view[json_length:]
    if json_length > MAX_UNCOUNTED + len(tensors):
        tensors = memoryview(bytes(tensors))  # views would keep the text in memory, of which the engine counts no byte
    return loads(view[:json_length]), _Sections(tensors)


def _inputs(described: list[Any], rest: _Sections | None, shared_memory: SharedMemory) -> list[Tensor]:
    check_count(len(described), "inputs")
    read_shared = shared_memory.reader()  # one for all: it limits the bytes of a request
    read = _input if len(described) <= _MAX_KNOWN_PER_REQUEST else _read_input
    inputs = [read(index, tensor, rest, read_shared) for index, tensor in enumerate(described)]
    if rest is not None:
        rest.finish()
    # Clients that write a map have any order. In one order, their requests have one layout and share frames.
    inputs.sort(key=attrgetter("name"))
    return inputs


def _known_input(described: Any, rest: _Sections | None) -> Tensor | None:
    """Read a numeric input whose name, datatype and shape were read before, or return None.

    Most inputs have exactly name, shape, datatype and either data, a flat list of numbers, or binary_data_size.
    `_read_input` reads anything else, and rejects everything that is wrong.
    """
    if type(described) is not dict or len(described) != 4:
        return None
    shape = described.get("shape")
    # The types matter, since 1, 1.0 and true would be the same key.
    if type(shape) is not list or not set(map(type, shape)) <= _INTEGER:
        return None
    try:
        known = _known_inputs.entries.get((described.get("name"), described.get("datatype"), *shape))
        if known is None:
            return None
        data = described.get("data")
        if type(data) is list:
            if len(data) != known.value_count or not set(map(type, data)) <= known.types:
                return None
            return Tensor(known.name, known.datatype, known.shape, known.pack(*data))
        parameters = described.get("parameters")
        if rest is None or type(parameters) is not dict or len(parameters) != 1:
            return None
        size = parameters.get("binary_data_size")
        if type(size) is not int:
            return None
        return Tensor(known.name, known.datatype, known.shape, rest.take(known.name, size))
    except (OverflowError, TypeError, struct.error):  # a name that is no string, or a number that does not fit
        return None


def _input(index: int, described: Any, rest: _Sections | None, read_shared: ReadShared) -> Tensor:
    tensor = _known_input(described, rest)
    if tensor is None:
        tensor = _read_input(index, described, rest, read_shared)
        known = KnownInput.of(tensor)
        if known is not None:
            _known_inputs.put((tensor.name, tensor.datatype, *tensor.shape), known)
    return tensor


def _read_input(index: int, described: Any, rest: _Sections | None, read_shared: ReadShared) -> Tensor:
    where = f"inputs[{index}]"
    if not isinstance(described, dict):
        raise InvalidRequest(f"{where} must be an object with name, shape, datatype and data")
    name = _get(described, "name", str, None, where)
    datatype = _get(described, "datatype", str, None, where)
    shape = _get(described, "shape", list, None, where)
    if not set(map(type, shape)) <= {int}:
        raise InvalidRequest(f"the shape of input '{name}' must be a list of whole numbers")
    check_datatype(name, datatype)
    check_shape(name, shape)
    parameters = _get(described, "parameters", dict, _NOTHING, where)
    if parameters.get("binary_data_size") is not None:
        size = _get(parameters, "binary_data_size", int, None, where)
        if rest is None:
            raise InvalidRequest(
                f"input '{name}' has binary_data_size, but the request lacks the header Inference-Header-Content-Length"
            )
        if described.get("data") is not None:
            raise InvalidRequest(f"input '{name}' has both data and binary_data_size; send one of them")
        return raw_tensor(name, datatype, shape, rest.take(name, size))
    region_range = read_region_range(parameters, f"input '{name}'")
    if region_range is not None:
        if described.get("data") is not None:
            raise InvalidRequest(f"input '{name}' has both data and a shared_memory_region; send one of them")
        return raw_tensor(name, datatype, shape, read_shared(region_range))
    if described.get("data") is None:
        raise InvalidRequest(f"input '{name}' has no data")
    # A scalar is a bare value, as in numpy's tolist().
    if shape and not isinstance(described["data"], list):
        raise InvalidRequest(f"the data of input '{name}' must be a list, nested or flat")
    return read_tensor(name, described["data"], datatype, shape)


def _outputs(document: dict[str, Any], parameters: Mapping[str, Any]) -> tuple[list[str], OutputOptions]:
    binary = _get(parameters, "binary_data_output", bool, False, "parameters")
    if document.get("outputs") is None:
        return [], ALL_BINARY if binary else ALL_JSON
    names: list[str] = []
    binary_by_name: dict[str, bool] = {}
    class_counts: dict[str, int] = {}
    region_ranges: dict[str, RegionRange] = {}
    described = _get(document, "outputs", list, [], "the request")
    check_count(len(described), "outputs")
    for index, output in enumerate(described):
        where = f"outputs[{index}]"
        if not isinstance(output, dict):
            raise InvalidRequest(f"{where} must be an object with a name")
        name = _get(output, "name", str, None, where)
        names.append(name)
        if len(output) == 1:
            continue
        options = _get(output, "parameters", dict, _NOTHING, where)
        if options.get("classification") is not None:
            class_counts[name] = read_class_count(name, options["classification"])
        region_range = read_region_range(options, f"output '{name}'")
        if region_range is not None:
            region_ranges[name] = region_range
        if options.get("binary_data") is not None:
            binary_by_name[name] = _get(options, "binary_data", bool, False, where)
    if names and not class_counts and not region_ranges:
        asked = {binary_by_name.get(name, binary) for name in names}
        if len(asked) == 1:
            return names, ALL_BINARY if True in asked else ALL_JSON
    return names, OutputOptions(binary, binary_by_name, class_counts, region_ranges)


def _get(record: Mapping[str, Any], key: str, kind: type, default: Any, where: str) -> Any:
    """Return record[key], which must be of this type. It is required if `default` is None. null counts as missing."""
    value = record.get(key)
    if value is None:
        value = default
    if type(value) is not kind and value is not default:
        raise InvalidRequest(f"'{key}' of {where} must be {_TYPE_NAMES[kind]}")
    if value is None:
        raise InvalidRequest(f"{where} has no '{key}', which must be {_TYPE_NAMES[kind]}")
    return value
