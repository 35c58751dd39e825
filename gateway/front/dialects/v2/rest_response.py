"""The Open Inference Protocol over REST: writes answers."""

from typing import Any

from gateway.codecs.json_tensors import flat_json, json_values
from gateway.codecs.json_text import dumps
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.types import InferResponse
from gateway.front.base.limits import Limits, check_json_answer
from gateway.front.dialects.v2.output_options import OutputOptions
from runtimes.bounded_cache import BoundedCache
from runtimes.tensors import Buffer, Tensor

# The shapes of outputs follow from those of requests, which clients choose; a text takes some 100 bytes.
_descriptions: BoundedCache[tuple[Any, ...], bytes] = BoundedCache(1024)
_beginnings: BoundedCache[tuple[str, str], bytes] = BoundedCache(1024)


def write_response(
    response: InferResponse, options: OutputOptions, limits: Limits, shared: SharedMemory
) -> tuple[list[Buffer], int | None]:
    """Return the parts of the body, and the length of its JSON if tensors follow, otherwise None.

    JSON data is flat and in row-major order, as in answers of Triton and MLServer. BYTES elements are strings, or
    {"b64": "…"} if they are not UTF-8. Raises TooLarge, InvalidRequest.
    """
    ranges = options.region_ranges
    if not ranges and not options.binary and not options.binary_by_name:
        check_json_answer(response.outputs, limits, flat=True)
        return [_json_document(response)], None
    check_json_answer(
        [each for each in response.outputs if not options.is_binary(each.name) and each.name not in ranges],
        limits,
        flat=True,
    )
    sections: list[Buffer] = []
    outputs = []
    for tensor in response.outputs:
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if tensor.name in ranges:
            # No parameters describe this, because perf_analyzer would interpret any as a binary_data_size.
            shared.write(ranges[tensor.name], tensor.data)
        elif options.is_binary(tensor.name):
            output["parameters"] = {"binary_data_size": len(tensor.data)}
            sections.append(tensor.data)
        else:
            output["data"] = json_values(tensor, flat=True)
        outputs.append(output)
    document: dict[str, Any] = {"model_name": response.model, "model_version": response.version, "outputs": outputs}
    if response.id:
        document["id"] = response.id
    text = dumps(document)
    return [text, *sections], len(text) if sections else None


def _json_document(response: InferResponse) -> bytes:
    """Return what `dumps` makes of a response without binary outputs, from the texts that few responses change."""
    outputs = [_described(each) + flat_json(each) + b"}" for each in response.outputs]
    rest = b'],"id":%b}' % dumps(response.id) if response.id else b"]}"
    return _beginning(response.model, response.version) + b",".join(outputs) + rest


def _described(tensor: Tensor) -> bytes:
    """Return the JSON of an output up to its data."""
    key = tensor[:3]
    text = _descriptions.entries.get(key)
    if text is None:
        described = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        text = dumps(described)[:-1] + b',"data":'
        _descriptions.put(key, text)
    return text


def _beginning(model: str, version: str) -> bytes:
    text = _beginnings.entries.get((model, version))
    if text is None:
        text = dumps({"model_name": model, "model_version": version})[:-1] + b',"outputs":['
        _beginnings.put((model, version), text)
    return text
