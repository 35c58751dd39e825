"""The Open Inference Protocol over REST: writes answers.

An answer is text that few answers change (names, datatypes, shapes), and values. The text is made once per model and
layout, and joined with the values. The values of answers that came in one frame are written together.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from gateway.codecs.json_tensors import json_values
from gateway.codecs.json_text import dumps, number_list
from gateway.domain.shared_memory import SharedMemory
from gateway.domain.types import InferResponse
from gateway.front.base.limits import Limits, check_answer, check_json_answer
from gateway.front.dialects.v2.output_options import ALL_BINARY, ALL_JSON, OutputOptions
from runtimes.bounded_cache import BoundedCache
from runtimes.contract import numpy_dtype
from runtimes.layouts import GroupedTensors, TensorGroup, TensorLayout, with_rows
from runtimes.tensors import Buffer, Tensor, unpack_bytes, widened

# The shapes of outputs follow from those of requests, which clients choose; an entry takes some 300 bytes.
_MAX_TEXTS = 1024
# Values of one frame are written together if they take at most this many bytes. It bounds what is written in vain when
# the other answers of the frame are written differently; for more bytes, a call per answer costs little.
_MAX_TOGETHER = 1 << 14
# Longer layouts are not cached.
_MAX_TENSORS = 64


class _Texts(NamedTuple):
    """The texts of all answers of one model that have the same layout, for ALL_JSON or for ALL_BINARY.

    before   what comes before the values of each tensor, or instead of them, without the bytes of strings
    end      what comes after the last tensor
    size     the bytes of all tensors of numbers
    strings  the positions of the others
    """

    before: tuple[bytes, ...]
    end: bytes
    size: int
    strings: tuple[int, ...]


# By model, version, layout, rows, and whether the texts are for ALL_BINARY.
_Key = tuple[str, str, TensorLayout, int, bool]
_texts: BoundedCache[_Key, _Texts] = BoundedCache(_MAX_TEXTS)


Body = tuple[Sequence[Buffer], int | None]


def write_member(response: InferResponse, options: OutputOptions, limits: Limits) -> Body | None:
    """Do what `write_response` does for a member of a group, without looking at its tensors one by one.

    Return None if the answer is not a member, or has options of its own, or no tensors, or is over a limit.
    """
    model, version, outputs, request_id, _ = response
    if type(outputs) is not GroupedTensors:
        return None
    if options is ALL_JSON:
        binary = False
    elif options is ALL_BINARY:
        binary = True
    else:
        return None
    group, index = outputs.group, outputs.member
    before, end, size, strings = texts_of(model, version, group, index, binary)
    for tensor in strings:
        size += len(group.data(tensor, index, index + 1))
    if size > limits.response_bytes or size > limits.json_answer_bytes or not before:
        return None
    end += b'],"id":%b}' % dumps(request_id) if request_id else b"]}"
    if binary:
        sections = [group.data(tensor, index, index + 1) for tensor in range(len(before))]
        texts = [*before, end]
        for tensor in strings:
            texts[tensor] += _binary_size(len(sections[tensor]))
        document = b"".join(texts)
        return [document, *sections], len(document)
    values = group.memo
    if values is None:
        values = group.memo = [values_of_all(group, tensor) for tensor in range(len(before))]
    texts = [values_of_one(group, tensor, index) if each is None else each[index] for tensor, each in enumerate(values)]
    if len(texts) == 1:
        return (b"%b%b%b" % (before[0], texts[0], end),), None
    parts = [text for pair in zip(before, texts, strict=True) for text in pair]
    return (b"".join([*parts, end]),), None


def values_of_all(group: TensorGroup, tensor: int) -> list[bytes] | None:
    """Return the values of a tensor for each member of its group, as JSON; None if they must be written one by one."""
    _, datatype, shape, _ = group.layout[2][tensor]
    data, rows = group.data(tensor, 0, group.count), group.offsets[-1]
    count = rows * prod(with_rows(shape, 1))
    if group.count == 1 or not count or not 0 < len(data) <= _MAX_TOGETHER:
        return None
    if datatype == "BYTES":
        try:
            strings = [element.decode() for element in unpack_bytes(data, count)]
        except UnicodeDecodeError:
            return None
        per_row = count // rows
        return [dumps(strings[per_row * start : per_row * stop]) for start, stop in pairwise(group.offsets)]
    text = dumps(_array(data, datatype).reshape(rows, -1))
    if b"null" in text:  # values that are not finite: orjson does not write them
        return None
    lines = text[2:-2].split(b"],[")
    if len(lines) > group.count:
        lines = [b",".join(lines[start:stop]) for start, stop in pairwise(group.offsets)]
    return [b"[%b]" % line for line in lines]


def values_of_one(group: TensorGroup, tensor: int, member: int) -> bytes:
    """Return the values of a tensor for one member of its group, as JSON."""
    name, datatype, shape, _ = group.layout_of(member)[2][tensor]
    return _values(Tensor(name, datatype, shape, group.data(tensor, member, member + 1)))


def write_response(response: InferResponse, options: OutputOptions, limits: Limits, shared: SharedMemory) -> Body:
    """Return the parts of the body, and the length of its JSON if tensors follow, otherwise None.

    JSON data is flat and in row-major order, as in answers of Triton and MLServer. BYTES elements are strings, or
    {"b64": "…"} if they are not UTF-8. Raises TooLarge, InvalidRequest.
    """
    check_answer(response, limits)
    ranges = options.region_ranges
    check_json_answer(
        [each for each in response.outputs if not options.is_binary(each.name) and each.name not in ranges],
        limits,
        flat=True,
    )
    texts: list[bytes] = []
    sections: list[Buffer] = []
    for tensor in response.outputs:
        text = _described(*tensor[:3])
        if tensor.name in ranges:
            # No parameters describe this, because perf_analyzer would interpret any as a binary_data_size.
            shared.write(ranges[tensor.name], tensor.data)
            texts.append(text + b"}")
        elif options.is_binary(tensor.name):
            texts.append(text + _binary_size(len(tensor.data)))
            sections.append(tensor.data)
        else:
            texts.append(b'%b,"data":%b}' % (text, _values(tensor)))
    end = b'],"id":%b}' % dumps(response.id) if response.id else b"]}"
    document = b"%b%b%b" % (_beginning(response.model, response.version), b",".join(texts), end)
    return [document, *sections], len(document) if sections else None


def texts_of(model: str, version: str, group: TensorGroup, member: int, binary: bool) -> _Texts:
    """Return the texts of an answer: for ALL_BINARY or for ALL_JSON."""
    key = model, version, group.layout, group.rows[member], binary
    return _texts.entries.get(key) or _new_texts(key, group.layout_of(member))


def _new_texts(key: _Key, layout: TensorLayout) -> _Texts:
    model, version, _, _, binary = key
    before, start = [], _beginning(model, version)
    for name, datatype, shape, size in layout[2]:
        text = start + _described(name, datatype, shape)
        if not binary:
            text += b',"data":'
        elif size >= 0:
            text += _binary_size(size)
        before.append(text)
        start = b"," if binary else b"},"
    sizes = [size for _, _, _, size in layout[2]]
    strings = tuple([tensor for tensor, size in enumerate(sizes) if size < 0])
    texts = _Texts(tuple(before), b"" if binary else b"}", sum([size for size in sizes if size > 0]), strings)
    if len(before) <= _MAX_TENSORS:
        _texts.put(key, texts)
    return texts


def _beginning(model: str, version: str) -> bytes:
    """Return the JSON of an answer up to its outputs."""
    return dumps({"model_name": model, "model_version": version})[:-1] + b',"outputs":['


def _described(name: str, datatype: str, shape: Sequence[int]) -> bytes:
    """Return the JSON of a tensor without the closing brace."""
    return dumps({"name": name, "datatype": datatype, "shape": shape})[:-1]


def _binary_size(size: int) -> bytes:
    return b',"parameters":{"binary_data_size":%d}}' % size


def _values(tensor: Tensor) -> bytes:
    """Write a tensor as one flat list. Its size needs no check, because it comes from a worker."""
    if tensor.datatype == "BYTES":
        return dumps(json_values(tensor, flat=True))
    return number_list(_array(tensor.data, tensor.datatype))


def _array(data: Buffer, datatype: str) -> "np.ndarray[Any, Any]":
    array = widened(np.frombuffer(data, numpy_dtype(datatype)))
    return array if array.flags.aligned else array.copy()
