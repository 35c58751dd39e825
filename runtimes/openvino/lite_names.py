"""Names of inputs and outputs in the SignatureDef of a .tflite file, which OpenVINO does not read.

The numbers are those of the fields in TensorFlow Lite's schema.
"""

from typing import Any, Dict, Iterator

from flatbuffers import number_types
from flatbuffers.table import Table

_SUBGRAPHS, _SIGNATURES = 2, 7  # of a model
_TENSORS = 0  # of a subgraph
_TENSOR_NAME = 3
_INPUTS, _OUTPUTS, _KEY, _SUBGRAPH = 0, 1, 2, 4  # of a SignatureDef
_NAME, _TENSOR = 0, 1  # of an entry in it


def signature_names(path: str) -> Dict[str, str]:
    """Return the names by those of the tensors: of `serving_default`, or else of the first signature by name.

    Whatever cannot be read has no names; OpenVINO reports what is wrong with the file.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        return _names(content)
    except Exception:  # struct.error, IndexError, TypeError, …: the bytes of a file that is not well formed
        return {}


def _names(content: bytes) -> Dict[str, str]:
    model = _root(content)
    signatures = [each for each in _tables(model, _SIGNATURES) if not _number(each, _SUBGRAPH)]
    signatures.sort(key=lambda each: (_text(each, _KEY) != "serving_default", _text(each, _KEY)))
    if not signatures:
        return {}
    tensors = list(_tables(next(_tables(model, _SUBGRAPHS)), _TENSORS))
    entries = [each for field in (_INPUTS, _OUTPUTS) for each in _tables(signatures[0], field)]
    return {_text(tensors[_number(each, _TENSOR)], _TENSOR_NAME): _text(each, _NAME) for each in entries}


def _root(content: bytes) -> Any:
    return Table(content, int.from_bytes(content[:4], "little"))


def _field(table: Any, number: int) -> int:
    return int(table.Offset(4 + 2 * number))


def _tables(table: Any, number: int) -> Iterator[Any]:
    offset = _field(table, number)
    if offset:
        start = table.Vector(offset)
        for index in range(table.VectorLen(offset)):
            yield Table(table.Bytes, table.Indirect(start + 4 * index))


def _number(table: Any, number: int) -> int:
    offset = _field(table, number)
    return int(table.Get(number_types.Uint32Flags, table.Pos + offset)) if offset else 0


def _text(table: Any, number: int) -> str:
    offset = _field(table, number)
    return str(table.String(table.Pos + offset).decode("utf-8", "replace")) if offset else ""
