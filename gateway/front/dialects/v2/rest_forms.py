"""Finds what was read from a request whose JSON differs from an earlier one in nothing but its values and its id.

The JSON of one client's requests is alike but for the values of the inputs and the id: they have one form. These are
cut out, and the rest is looked up, so that only the values are parsed.

Why the rest may be looked up: a JSON parser's state after some text depends on that text only. If the text before a
list of values is byte for byte that of an earlier request, the list is the same part of the document as it was
there; the text after it then means the same again, because after any complete list the state is the same. So the
holes are where they were in the request from which the form was learned, and `learn` checks by parsing where that is.
Whatever is unusual (nested lists, truth values, values that do not fit) is left to the full reader.
"""

import struct
import time
from collections.abc import Callable
from itertools import count
from operator import attrgetter
from typing import Any, NamedTuple

import orjson

from gateway.codecs.json_tensors import CHECKED
from gateway.domain.types import InferRequest, Parameters
from gateway.front.dialects.v2.known_input import KnownInput
from gateway.front.dialects.v2.output_options import OutputOptions
from runtimes.bounded_cache import BoundedCache
from runtimes.contract import SequenceControl
from runtimes.layouts import TensorLayout, by_identity, new_layout
from runtimes.tensors import Buffer, Tensor

# A client has few forms: one for each shape, for example. With a smaller cache, several hundred clients evict each
# other's entries; a larger one is memory that one client can fill, at most this times _MAX_TEXT.
_MAX_FORMS = 1024
_MAX_TEXT = 4096
_MAX_LISTS = 32
# The hashes of forms seen once. A form is learned when it is seen again: a client whose requests all differ in their
# parameters would otherwise pay for learning each of them.
_MAX_SEEN = 1024

Key = tuple[bytes | int, ...]


class Values(NamedTuple):
    """An input with values in JSON. which: the index of their list; pack: see KnownInput."""

    which: int
    name: str
    datatype: str
    shape: tuple[int, ...]
    pack: Callable[..., bytes]


class Section(NamedTuple):
    """An input whose bytes follow the JSON, from `start` to `stop`."""

    start: int
    stop: int
    name: str
    datatype: str
    shape: tuple[int, ...]


class Form(NamedTuple):
    """What requests with one form have in common.

    inputs         the inputs, sorted by name
    layout         as in InferRequest
    timeout_s      the time that such a request allows, in seconds; None if it does not say
    section_bytes  the bytes of all tensors after the JSON
    parameters, sequence  as in InferRequest
    """

    inputs: tuple["Values | Section", ...]
    outputs: list[str]
    signature: str
    priority: int
    timeout_s: float | None
    layout: TensorLayout
    options: OutputOptions
    section_bytes: int
    parameters: Parameters
    sequence: SequenceControl | None


# None for what looks like a form, but is none.
_forms: BoundedCache[Key, Form | None] = BoundedCache(_MAX_FORMS)
_seen: BoundedCache[int, None] = BoundedCache(_MAX_SEEN)


def read(model: str, version: str, text: bytes, sections: Buffer) -> tuple[InferRequest, OutputOptions] | None:
    """Read a request with a known form, from its JSON and the bytes that follow.

    Return None if the full reader must look at it.
    """
    form, lists, request_id = _find(text)
    if form is None or len(sections) != form.section_bytes:
        return None
    tensors = []
    try:
        for each in form.inputs:
            if isinstance(each, Values):
                which, name, datatype, shape, pack = each
                values = lists[which]
                numbers = orjson.loads(values)
                # `pack` takes neither null nor strings for numbers, but true and false, which have an e.
                if b"e" in values and bool in map(type, numbers):
                    return None
                tensors.append(Tensor(name, datatype, shape, pack(*numbers)))
            else:
                start, stop, name, datatype, shape = each
                tensors.append(Tensor(name, datatype, shape, sections[start:stop]))
        id_text = request_id.decode() if request_id else ""
    except (ValueError, OverflowError, TypeError, struct.error):
        return None
    if id_text and not id_text.isprintable():  # orjson rejects some of these characters
        return None
    deadline = None if form.timeout_s is None else time.monotonic() + form.timeout_s
    request = InferRequest(
        model,
        tensors,
        version,
        id_text,
        form.outputs,
        form.signature,
        form.priority,
        deadline,
        form.layout,
        None,
        form.parameters,
        form.sequence,
    )
    return request, form.options


def find(text: bytes) -> Form | None:
    """Return the form of a request with this JSON, if it is known."""
    return _find(text)[0]


def _find(text: bytes) -> tuple[Form | None, list[bytes], bytes | None]:
    """Return the form if it is known, the lists of values, and the id if the form was found without it."""
    key, lists = _cut_lists(text)
    form, request_id = _forms.entries.get(key), None
    if form is None:
        key, request_id = _cut_id(key)
        form = None if request_id is None else _forms.entries.get(key)
    return form, lists, request_id


def _cut_lists(text: bytes) -> tuple[Key, list[bytes]]:
    """Return the text before, between and after the lists of values, and the lists with their brackets."""
    pieces: list[bytes] = []
    lists: list[bytes] = []
    position = 0
    found = text.find(b'"data"')
    while found >= 0:
        start = text.find(b"[", found)
        end = text.find(b"]", start) + 1
        if start < 0 or not end or len(lists) == _MAX_LISTS:
            break
        pieces.append(text[position:start])
        lists.append(text[start:end])
        position = end
        found = text.find(b'"data"', end)
    pieces.append(text[position:])
    return tuple(pieces), lists


def _cut_id(key: Key) -> tuple[Key, bytes | None]:
    """Cut the id out of the text around the lists, and note between which pieces it was."""
    for index, piece in enumerate(key):
        assert isinstance(piece, bytes)
        found = piece.find(b'"id"')
        if found >= 0:
            start = piece.find(b'"', found + 4) + 1
            end = piece.find(b'"', start)
            if not start or end < 0 or b"\\" in piece[start:end]:
                break
            return (index, *key[:index], piece[:start], piece[end:], *key[index + 1 :]), piece[start:end]
    return key, None


def learn(text: bytes, document: dict[str, Any], request: InferRequest, options: OutputOptions) -> None:
    """Remember the form of a request that the full reader has read from `document`, once it is seen again."""
    key, lists = _cut_lists(text)
    key, request_id = _cut_id(key)
    if key in _forms.entries or len(text) - sum([len(each) for each in lists]) > _MAX_TEXT:
        return
    number = hash(key)
    if number not in _seen.entries:
        _seen.put(number, None)
    else:
        _forms.put(key, _form(key, request_id, len(lists), document, request, options))


def _form(
    key: Key,
    request_id: bytes | None,
    list_count: int,
    document: dict[str, Any],
    request: InferRequest,
    options: OutputOptions,
) -> Form | None:
    """Return None if requests that look like this one may differ in more than their values and their id."""
    if not _holes_are_values(key, request_id, list_count, document):
        return None
    timeout_s = None if request.deadline is None else document["parameters"]["timeout"] / 1e6
    tensors = {tensor.name: tensor for tensor in request.inputs}
    if len(tensors) != len(request.inputs):
        return None
    inputs: list[Values | Section] = []
    index = section_bytes = 0
    for described in document["inputs"]:
        tensor = tensors[described["name"]]
        if type(described.get("data")) is list:
            known = KnownInput.of(tensor)
            if known is None:
                return None
            inputs.append(Values(index, *tensor[:3], known.pack))
            index += 1
            continue
        size = (described.get("parameters") or {}).get("binary_data_size")
        # None, if the data are in shared memory or a bare value. The bytes of some must be looked at.
        if not size or tensor.datatype in CHECKED:
            return None
        inputs.append(Section(section_bytes, section_bytes + size, *tensor[:3]))
        section_bytes += size
    inputs.sort(key=attrgetter("name"))
    layout = by_identity(new_layout(request.signature, request.outputs, request.inputs))
    outputs = list(request.outputs)
    return Form(
        tuple(inputs),
        outputs,
        request.signature,
        request.priority,
        timeout_s,
        layout,
        options,
        section_bytes,
        request.parameters,
        request.sequence,
    )


def _holes_are_values(key: Key, request_id: bytes | None, list_count: int, document: dict[str, Any]) -> bool:
    """Return whether exactly the id, and each list of values in the order of the inputs, were cut out.

    They were if other values in the holes change these parts of the document, and nothing else. The others must differ
    from what was there, since a parameter, for example, may be equal to the id or to a list: lists become numbers.
    """
    numbers = count()
    inputs = [
        {**described, "data": next(numbers)} if type(described.get("data")) is list else described
        for described in document["inputs"]
    ]
    if next(numbers) != list_count:  # more than _MAX_LISTS, for example
        return False
    expected = {**document, "inputs": inputs}
    fillers = [b"%d" % number for number in range(list_count)]
    if request_id is None:
        if document.get("id") is not None:  # an id with escapes, for example, which was not cut out
            return False
    else:
        if document.get("id") != request_id.decode():
            return False
        other_id = request_id + b"x"
        expected["id"] = other_id.decode()
        assert isinstance(key[0], int)
        fillers.insert(key[0], other_id)
    pieces = [piece for piece in key if isinstance(piece, bytes)]
    text = b"".join([part for pair in zip(pieces, [*fillers, b""], strict=True) for part in pair])
    try:
        return bool(orjson.loads(text) == expected)
    except orjson.JSONDecodeError:
        return False
