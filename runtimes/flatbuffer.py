"""Reads files in the wire format of flatbuffers without the code that their schema generates.

It needs the package `flatbuffers`. Files are not verified: one that is not well formed raises any of MALFORMED.
"""

import struct
from typing import Any, Iterator, List, Optional

from flatbuffers import number_types
from flatbuffers.table import Table

MALFORMED = (struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, MemoryError)


class Flat:
    """A table. Fields are identified by their position in the schema, from 0."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @classmethod
    def root(cls, content: bytes) -> "Flat":
        return cls(Table(content, int.from_bytes(content[:4], "little")))

    def tables(self, field: int) -> "Iterator[Flat]":
        """Yield the tables of a vector; none if the field is absent."""
        offset = self._offset(field)
        if offset:
            start = self._table.Vector(offset)
            for index in range(self._table.VectorLen(offset)):
                yield Flat(Table(self._table.Bytes, self._table.Indirect(start + 4 * index)))

    def table(self, field: int) -> "Optional[Flat]":
        offset = self._offset(field)
        if not offset:
            return None
        return Flat(Table(self._table.Bytes, self._table.Indirect(self._table.Pos + offset)))

    def member(self, field: int) -> "Optional[Flat]":
        """Return the table in a union, whose type is the field before it."""
        offset = self._offset(field)
        if not offset:
            return None
        inner = Table(self._table.Bytes, 0)
        self._table.Union(inner, offset)
        return Flat(inner)

    def int32(self, field: int) -> int:
        return self._number(field, number_types.Int32Flags)

    def uint32(self, field: int) -> int:
        return self._number(field, number_types.Uint32Flags)

    def int8(self, field: int) -> int:
        return self._number(field, number_types.Int8Flags)

    def int32s(self, field: int) -> List[int]:
        offset = self._offset(field)
        if not offset:
            return []
        start, flags = self._table.Vector(offset), number_types.Int32Flags
        return [int(self._table.Get(flags, start + 4 * index)) for index in range(self._table.VectorLen(offset))]

    def text(self, field: int) -> str:
        offset = self._offset(field)
        return str(self._table.String(self._table.Pos + offset).decode("utf-8", "replace")) if offset else ""

    def _number(self, field: int, flags: Any) -> int:
        offset = self._offset(field)
        return int(self._table.Get(flags, self._table.Pos + offset)) if offset else 0

    def _offset(self, field: int) -> int:
        return int(self._table.Offset(4 + 2 * field))
