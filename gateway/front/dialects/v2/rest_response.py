"""The Open Inference Protocol over REST: writes answers.

An answer is text that few answers change (names, datatypes, shapes), and values. The text is made once per model and
description, and joined with the values.
"""

from typing import Any

import numpy as np

from gateway.codecs.json_tensors import json_values
from gateway.codecs.json_text import dumps, number_list
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.types import InferResponse
from gateway.front.base.limits import Limits, check_json_answer
from gateway.front.dialects.v2.output_options import OutputOptions
from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES
from runtimes.tensors import Buffer, Tensor

# The shapes of outputs follow from those of requests, which clients choose; an entry takes some 300 bytes.
_MAX_DESCRIPTIONS = 1024
_MAX_BEGINNINGS = 1024
# (name, datatype, shape) → its JSON without the closing brace, and how numpy reads the values; None for BYTES.
_descriptions: BoundedCache[tuple[Any, ...], tuple[bytes, "np.dtype[Any] | None"]] = BoundedCache(_MAX_DESCRIPTIONS)
_beginnings: BoundedCache[tuple[str, str], bytes] = BoundedCache(_MAX_BEGINNINGS)


def write_response(
    response: InferResponse, options: OutputOptions, limits: Limits, shared: SharedMemory
) -> tuple[list[Buffer], int | None]:
    """Return the parts of the body, and the length of its JSON if tensors follow, otherwise None.

    JSON data is flat and in row-major order, as in answers of Triton and MLServer. BYTES elements are strings, or
    {"b64": "…"} if they are not UTF-8. Raises TooLarge, InvalidRequest.
    """
    ranges = options.region_ranges
    is_plain = not (ranges or options.binary or options.binary_by_name)
    check_json_answer(
        response.outputs
        if is_plain
        else [each for each in response.outputs if not options.is_binary(each.name) and each.name not in ranges],
        limits,
        flat=True,
    )
    texts: list[bytes] = []
    sections: list[Buffer] = []
    for tensor in response.outputs:
        text, dtype = _described(tensor)
        if is_plain or not (tensor.name in ranges or options.is_binary(tensor.name)):
            texts.append(b'%b,"data":%b}' % (text, _values(tensor, dtype)))
        elif tensor.name in ranges:
            # No parameters describe this, because perf_analyzer would interpret any as a binary_data_size.
            shared.write(ranges[tensor.name], tensor.data)
            texts.append(text + b"}")
        else:
            texts.append(b'%b,"parameters":{"binary_data_size":%d}}' % (text, len(tensor.data)))
            sections.append(tensor.data)
    beginning = _beginning(response.model, response.version)
    end = b'],"id":%b}' % dumps(response.id) if response.id else b"]}"
    document = b"%b%b%b" % (beginning, texts[0] if len(texts) == 1 else b",".join(texts), end)
    return [document, *sections], len(document) if sections else None


def _values(tensor: Tensor, dtype: "np.dtype[Any] | None") -> bytes:
    """Write a tensor as one flat list. Its size needs no check, because it comes from a worker."""
    if dtype is None:
        return dumps(json_values(tensor, flat=True))
    array = np.frombuffer(tensor.data, dtype)
    return number_list(array if array.flags.aligned else array.copy())


def _described(tensor: Tensor) -> tuple[bytes, "np.dtype[Any] | None"]:
    key = tensor[:3]
    found = _descriptions.entries.get(key)
    if found is None:
        described = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        found = dumps(described)[:-1], DATATYPES[tensor.datatype].dtype if tensor.datatype != "BYTES" else None
        _descriptions.put(key, found)
    return found


def _beginning(model: str, version: str) -> bytes:
    """Return the JSON of an answer up to its outputs."""
    text = _beginnings.entries.get((model, version))
    if text is None:
        text = dumps({"model_name": model, "model_version": version})[:-1] + b',"outputs":['
        _beginnings.put((model, version), text)
    return text
