"""Lists the external data files of an ONNX model: files in its folder that contain weights.

The model names them, and any name is possible. The worker reads private copies of them, and the gateway exports them
together with the model.
"""

import os
from typing import Any, Iterator, List

from runtimes.contract import LoadError
from runtimes.protobuf import BYTES, FileMessage, Malformed, Message, fields

# Numbers of the fields of onnx.proto that lead from a ModelProto to its tensors.
_GRAPH, _FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_SPARSE = 1, 5, 15
_FUNCTION_NODE, _NODE_ATTRIBUTE = 7, 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TENSOR_EXTERNAL, _TENSOR_LOCATION, _KEY, _VALUE = 13, 14, 1, 2
_EXTERNAL = 1  # a value of TensorProto.data_location

_CHILDREN = {
    "model": {_GRAPH: "graph", _FUNCTIONS: "function"},
    "graph": {_GRAPH_NODE: "node", _GRAPH_TENSOR: "tensor", _GRAPH_SPARSE: "sparse"},
    "function": {_FUNCTION_NODE: "node"},
    "node": {_NODE_ATTRIBUTE: "attribute"},
    "attribute": {
        _ATTRIBUTE_TENSOR: "tensor", _ATTRIBUTE_TENSORS: "tensor",
        _ATTRIBUTE_GRAPH: "graph", _ATTRIBUTE_GRAPHS: "graph",
    },
    "sparse": {_SPARSE_VALUES: "tensor", _SPARSE_INDICES: "tensor"},
}  # fmt: skip
_MAX_DEPTH = 100  # of nested messages: the default recursion limit of protobuf's parsers
_ORT_FORMAT = b"ORTM"  # at byte 4, where flatbuffers have the identifier of their format


def is_ort_format(path: str) -> bool:
    """Return whether it is ONNX Runtime's own format, a flatbuffer, whatever the file is called. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(8)[4:] == _ORT_FORMAT


def weight_files(path: str) -> List[str]:
    """Return the names of the files, relative to the model's folder and with '/'. Raises LoadError, OSError."""
    if is_ort_format(path):
        return []  # it contains its weights
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        try:
            names = list(dict.fromkeys(_locations(FileMessage(file, 0, size), "model", 0)))
        except Malformed:
            raise LoadError("the model's file is not an ONNX file, or it is truncated") from None
    for name in names:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or not parts:
            raise LoadError("the model keeps weights in '%s', outside its folder: move them into that folder" % name)
        if not os.path.isfile(os.path.join(os.path.dirname(path), name)):
            raise LoadError("the model keeps weights in '%s', which is missing from its folder: add that file" % name)
    return names


def _locations(message: Message, kind: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise Malformed("it is nested more than %d deep" % _MAX_DEPTH)
    if kind == "tensor":
        yield from _location(message)
        return
    for number, wire, value in fields(message):
        inner = _CHILDREN[kind].get(number) if wire == BYTES else None
        if inner:
            yield from _locations(value, inner, depth + 1)


def _location(tensor: Message) -> List[str]:
    """Return the file with the tensor's values, or nothing if the tensor contains them."""
    location, names = 0, []  # type: int, List[str]
    for number, wire, value in fields(tensor):
        if number == _TENSOR_LOCATION:
            location = value
        elif number == _TENSOR_EXTERNAL and wire == BYTES:
            entry = {key: _text(text) for key, kind, text in fields(value) if kind == BYTES}
            if entry.get(_KEY) == "location":
                names = [entry.get(_VALUE, "")]
    return names if location == _EXTERNAL else []


def _text(value: Any) -> str:
    """Return a file name in the file system's encoding; any bytes are possible."""
    if isinstance(value, FileMessage):
        raise Malformed("a name has %d bytes" % len(value))
    return os.fsdecode(bytes(value))
