"""Reads the graph of an ONNX file: nodes, attributes, and the contents of small constants.

It reads the wire format directly, because the environment does not contain the package `onnx`, and because weights,
which may have gigabytes, are not read in this way. onnx.proto defines the numbers of the fields.
"""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from runtimes.dataflow.graph import Function, Graph, Model, Node, Reference, Tensor
from runtimes.dataflow.values import MAX_CONTENTS
from runtimes.protobuf import BYTES, FIXED32, FIXED64, FileMessage, Malformed, Message, fields, signed, varint

# Limits the time that a hostile file can take to some seconds.
_MAX_FIELDS = 8000000
_MAX_DEPTH = 20  # of nested graphs
_MAX_CONSTANT_BYTES = 1 << 20  # larger constants are not looked at
_DTYPES = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8",
    12: "<u4", 13: "<u8",
}  # fmt: skip


def of_file(path: str) -> Model:
    """Read a file. Raises Malformed and OSError."""
    with open(path, "rb") as file:
        return _Reader().model(FileMessage(file, 0, file.seek(0, 2)))


def of_bytes(content: bytes) -> Model:
    """Read a model from its bytes. Raises Malformed."""
    return _Reader().model(memoryview(content))


class _Reader:
    def __init__(self) -> None:
        self._left = _MAX_FIELDS

    def _fields(self, message: Message) -> Any:
        for field in fields(message):
            self._left -= 1
            if not self._left:
                raise Malformed("it has more than %d fields" % _MAX_FIELDS)
            yield field

    def model(self, message: Message) -> Model:
        graph, versions, functions = None, {}, {}  # type: Any, Dict[str, int], Dict[Tuple[str, str], Function]
        for number, _, value in self._fields(message):
            if number == 7:
                graph = self._graph(value, 0)
            elif number == 8:
                versions.update(self._version(value))
            elif number == 25:
                key, function = self._function(value)
                functions[key] = function
        if graph is None:
            raise Malformed("it has no graph")
        return Model(graph, versions, functions)

    def _version(self, message: Message) -> Dict[str, int]:
        domain, version = "", 0
        for number, _, value in self._fields(message):
            if number == 1:
                domain = _text(value)
            elif number == 2:
                version = signed(value)
        return {domain: version}

    def _function(self, message: Message) -> Any:
        name, domain, inputs, outputs, nodes, versions = "", "", [], [], [], {}  # type: Any, Any, Any, Any, Any, Any
        for number, _, value in self._fields(message):
            if number == 1:
                name = _text(value)
            elif number == 4:
                inputs.append(_text(value))
            elif number == 5:
                outputs.append(_text(value))
            elif number == 7:
                nodes.append(self._node(value, 1))
            elif number == 9:
                versions.update(self._version(value))
            elif number == 10:
                domain = _text(value)
        return (domain, name), Function(inputs, outputs, nodes, versions)

    def _graph(self, message: Message, depth: int) -> Graph:
        if depth > _MAX_DEPTH:
            raise Malformed("its graphs are nested more than %d deep" % _MAX_DEPTH)
        unranked: List[str] = []
        graph = Graph([], [], [], [], unranked)
        for number, _, value in self._fields(message):
            if number == 1:
                graph.nodes.append(self._node(value, depth))
            elif number == 5:
                graph.constants.append(self._tensor(value))
            elif number == 15:  # a sparse tensor; its name is that of its values
                for inner, _, part in self._fields(value):
                    if inner == 1:
                        graph.constants.append(Tensor(self._tensor(part).name, (), None))
            elif number == 11:
                graph.inputs.append(self._input(value))
            elif number == 12:
                name, dims = self._input(value)
                graph.outputs.append(name)
                if dims is None:
                    unranked.append(name)
        return graph

    def _node(self, message: Message, depth: int) -> Node:
        operator, domain, name = "", "", ""
        inputs, outputs, attributes = [], [], {}  # type: List[str], List[str], Dict[str, Any]
        for number, _, value in self._fields(message):
            if number == 1:
                inputs.append(_text(value))
            elif number == 2:
                outputs.append(_text(value))
            elif number == 3:
                name = _text(value)
            elif number == 4:
                operator = _text(value)
            elif number == 5:
                attributes.update([self._attribute(value, depth)])
            elif number == 7:
                domain = _text(value)
        return Node(operator, "" if domain == "ai.onnx" else domain, name, inputs, outputs, attributes)

    def _attribute(self, message: Message, depth: int) -> Tuple[str, Any]:
        name, single, several, kind = "", None, [], 0  # type: str, Any, List[Any], int
        for number, wire, value in self._fields(message):
            if number == 1:
                name = _text(value)
            elif number == 21:
                single = Reference(_text(value))
            elif number == 20:
                kind = value
            elif number == 2:
                single = _float(value)
            elif number == 3:
                single = signed(value)
            elif number == 4:
                single = _text(value) if len(value) <= 1000 else ""
            elif number == 5:
                single = self._tensor(value)
            elif number == 6:
                single = self._graph(value, depth + 1)
            elif number == 7:
                several.extend(_floats(value))
            elif number == 8:
                several.extend(_integers(wire, value))
            elif number == 9:
                several.append(_text(value) if len(value) <= 1000 else "")
            elif number == 11:
                several.append(self._graph(value, depth + 1))
        # Some writers omit values that are 0 or empty.
        return name, {1: 0.0, 2: 0, 3: ""}.get(kind, several) if single is None else single

    def _input(self, message: Message) -> Tuple[str, Optional[List[Any]]]:
        name, dims = "", None  # type: str, Optional[List[Any]]
        for number, _, value in self._fields(message):
            if number == 1:
                name = _text(value)
            elif number == 2:
                for kind, _, tensor in self._fields(value):
                    if kind != 1:  # a sequence or a map
                        continue
                    for part, _, shape in self._fields(tensor):
                        if part == 2:
                            dims = [self._size(size) for index, _, size in self._fields(shape) if index == 1]
        return name, dims

    def _size(self, message: Message) -> Any:
        size = None  # type: Any
        for number, _, value in self._fields(message):
            if number == 1:
                size = signed(value)
            elif number == 2:
                size = _text(value)
        return None if size == "" or (isinstance(size, int) and size < 0) else size

    def _tensor(self, message: Message) -> Tensor:
        name, dims, kind, numbers, raw = "", [], 0, [], None  # type: str, List[int], int, List[Any], Any
        is_external = False
        for number, wire, value in self._fields(message):
            if number == 1:
                dims.extend(_integers(wire, value))
            elif number == 2:
                kind = value
            elif number == 8:
                name = _text(value)
            elif number == 9:
                raw = value
            elif number in (4, 10) and isinstance(value, (bytes, memoryview)) and len(value) <= _MAX_CONSTANT_BYTES:
                numbers.extend(_floats(value) if number == 4 else _floats(value, "<f8"))
            elif number in (5, 7, 11) and (wire != BYTES or len(value) <= 10 * MAX_CONTENTS):
                numbers.extend(_integers(wire, value))
            elif number == 14:
                is_external = value == 1
        count = 1
        for size in dims:
            count *= size
        contents = None
        if 0 <= count <= MAX_CONTENTS and kind in _DTYPES and not is_external:
            if raw is not None and len(raw) == count * np.dtype(_DTYPES[kind]).itemsize:
                contents = np.frombuffer(bytes(raw), _DTYPES[kind]).tolist()
            elif raw is None and len(numbers) == count and kind != 10:
                contents = [bool(element) for element in numbers] if kind == 9 else numbers
        return Tensor(name, tuple(dims), contents)


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, (bytes, memoryview)) else ""


def _float(value: Any) -> float:
    return float(np.frombuffer(bytes(value), "<f4")[0]) if len(value) == 4 else 0.0


def _floats(value: Any, dtype: str = "<f4") -> List[float]:
    size = np.dtype(dtype).itemsize
    if not isinstance(value, (bytes, memoryview)) or len(value) > size * MAX_CONTENTS or len(value) % size:
        return []
    return np.frombuffer(bytes(value), dtype).tolist()


def _integers(wire: int, value: Any) -> List[int]:
    """Return the numbers of a repeated field, which is either packed or one number for each field."""
    if wire not in (BYTES, FIXED32, FIXED64):
        return [signed(value)]
    result, position = [], 0
    content = bytes(value) if isinstance(value, (bytes, memoryview)) else b""
    while wire == BYTES and position < len(content):
        number, position = varint(content, position)
        result.append(signed(number))
    return result
