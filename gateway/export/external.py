"""The files beside an ONNX file in which it keeps weights: it names them itself, and they may be called anything."""

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from gateway.export.tasks import Failed

# Numbers of fields in onnx.proto: from a ModelProto to what holds tensors, and to the tensors themselves.
_GRAPH, _FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_SPARSE = 1, 5, 15
_FUNCTION_NODE, _NODE_ATTRIBUTE = 7, 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TENSOR_EXTERNAL, _KEY, _VALUE = 13, 1, 2

_WITHIN = {
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
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def weight_files(path: Path) -> list[str]:
    """Their names as the ONNX file has them, with '/', relative to its folder. Raises Failed, OSError."""
    if not path.stat().st_size:
        raise Failed(f"{path.name} is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            names = list(dict.fromkeys(_locations(data, 0, len(data), "model")))
        except (IndexError, UnicodeDecodeError):
            raise Failed(f"{path.name} is no ONNX file, or is cut off") from None
    for name in names:
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or not parts:
            raise Failed(f"the model keeps weights in '{name}', outside of its own folder: move them beside it")
        if not (path.parent / name).is_file():
            raise Failed(f"the model keeps weights in '{name}', which is not beside it: add that file")
    return names


def _locations(data: mmap.mmap, start: int, end: int, kind: str) -> Iterator[str]:
    for number, begin, stop in _fields(data, start, end):
        if kind == "tensor":
            if number == _TENSOR_EXTERNAL:
                entry = {key: data[a:b].decode() for key, a, b in _fields(data, begin, stop)}
                if entry.get(_KEY) == "location":
                    yield entry.get(_VALUE, "")
        elif inner := _WITHIN[kind].get(number):
            yield from _locations(data, begin, stop, inner)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field that has a length. Raises IndexError for what is no message."""
    while start < end:
        tag, start = _varint(data, start)
        wire = tag & 7
        if wire == _BYTES:
            size, start = _varint(data, start)
            if start + size > end:
                raise IndexError
            yield tag >> 3, start, start + size
            start += size
        elif wire == _VARINT:
            _, start = _varint(data, start)
        elif wire in (_FIXED32, _FIXED64):
            start += 4 if wire == _FIXED32 else 8
        else:
            raise IndexError


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[start]
        value |= (byte & 127) << shift
        start, shift = start + 1, shift + 7
        if byte < 128:
            return value, start
        if shift > 63:
            raise IndexError
