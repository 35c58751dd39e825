"""Reads CNTK's files as Protocol Buffers, within bounds. Anything wrong with a file is a LoadError."""

from typing import Any, Iterator, Tuple

from runtimes import protobuf
from runtimes.contract import LoadError
from runtimes.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, Malformed, signed

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "Field", "FieldReader", "broken", "shorten", "signed", "varint"]

# A field needs only two bytes, so a hostile file can contain any number of them. Real models have some ten thousand;
# reading this many takes seconds.
MAX_FIELDS = 2000000


# Error messages quote names and shapes from the file, which can have any length.
MAX_MESSAGE_LENGTH = 400


def broken(why: str) -> LoadError:
    why = shorten(why, MAX_MESSAGE_LENGTH)
    return LoadError("this is not a complete CNTK v2 model file: %s; save or copy it again" % why)


def shorten(value: Any, max_length: int = 80) -> str:
    """Return a name or a number from the file for an error message; "" for a value of any other type."""
    text = str(value) if isinstance(value, (str, int)) else ""
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


class FieldReader:
    """Reads the messages in one file and bounds the total number of their fields."""

    def __init__(self) -> None:
        self._count = 0

    def fields(self, message: memoryview) -> Iterator[Field]:
        """Yield the fields of a message in their order. Raises LoadError if it is malformed."""
        try:
            for field in protobuf.fields(message):
                self._count += 1
                if self._count > MAX_FIELDS:
                    raise LoadError("this file has more than %d fields, which no CNTK model has" % MAX_FIELDS)
                yield field
        except Malformed as error:
            raise broken(str(error)) from error


def varint(message: memoryview, offset: int) -> Tuple[int, int]:
    """Read an unsigned integer of up to 64 bits; return it and the offset after it. Raises LoadError."""
    try:
        return protobuf.varint(message, offset)
    except Malformed as error:
        raise broken(str(error)) from error
