"""Inputs of the Open Inference Protocol that were read before: how their JSON values become bytes."""

import struct
from collections.abc import Callable
from functools import partial
from math import prod
from typing import NamedTuple

from gateway.codecs.json_tensors import FLOAT_CODES
from runtimes.contract import DATATYPES
from runtimes.tensors import Tensor, pack_bytes

_INTEGER, _NUMBER, _STRING = frozenset({int}), frozenset({int, float}), frozenset({str})
_INTEGER_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
# Inputs of up to this many values are remembered. For larger ones, reading anything but the values costs little.
_MAX_VALUES = 1 << 12
_MAX_RANK = 8
_MAX_NAME = 128


class KnownInput(NamedTuple):
    """An input that was read before.

    types  what its values may be in JSON
    pack   turns `value_count` of them into bytes; raises OverflowError, TypeError or struct.error if one does not fit
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    value_count: int
    types: frozenset[type]
    pack: Callable[..., bytes]

    @classmethod
    def of(cls, tensor: Tensor) -> "KnownInput | None":
        """Return None for an input that is not remembered: clients choose names and shapes, and could fill the memory.

        Nor is it for BOOL, whose bytes must be looked at, for datatypes that numpy lacks, or for scalars.
        """
        datatype, count = DATATYPES[tensor.datatype], prod(tensor.shape)
        if datatype.kind not in ("float", "int", "uint", "bytes") or not 0 < len(tensor.shape) <= _MAX_RANK:
            return None
        if count > _MAX_VALUES or len(tensor.name) > _MAX_NAME:
            return None
        if datatype.kind == "bytes":
            return cls(tensor.name, tensor.datatype, tensor.shape, count, _STRING, partial(_pack_strings, count))
        types = _NUMBER if datatype.kind == "float" else _INTEGER
        code = code_of(tensor.datatype)
        if not code:
            return None
        return cls(tensor.name, tensor.datatype, tensor.shape, count, types, struct.Struct(f"<{count}{code}").pack)


def code_of(name: str) -> str:
    """Return the struct module's format character of a numeric datatype; "" if it has none."""
    datatype = DATATYPES[name]
    if datatype.typestr is None:
        return ""
    if datatype.kind == "int":
        return _INTEGER_CODES[datatype.itemsize]
    if datatype.kind == "uint":
        return _INTEGER_CODES[datatype.itemsize].upper()
    return FLOAT_CODES.get(name, "") if datatype.kind == "float" else ""


def _pack_strings(count: int, *values: object) -> bytes:
    if len(values) != count or not set(map(type, values)) <= _STRING:
        raise TypeError
    return pack_bytes(values)  # type: ignore[arg-type]
