"""CNTK's files as protocol buffers, read within bounds: what is wrong with one is a LoadError."""

from typing import Any, Iterator, Tuple

from runtimes import protobuf
from runtimes.contract import LoadError
from runtimes.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, Malformed, signed

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "Field", "Wire", "broken", "short", "signed", "varint"]

# A hostile file can have a field in two bytes. Real models have some ten thousands; these take seconds.
MAX_FIELDS = 2000000


# Of what is told: names and shapes come from the file, and sentences about them stay sentences.
MAX_MESSAGE_LENGTH = 400


def broken(why: str) -> LoadError:
    return LoadError("this is no whole CNTK v2 model file: %s; save or copy it again" % short(why, MAX_MESSAGE_LENGTH))


def short(value: Any, most: int = 80) -> str:
    """A name or a number as a sentence tells it; "" for anything else."""
    text = str(value) if isinstance(value, (str, int)) else ""
    return text if len(text) <= most else text[: most - 1] + "…"


class Wire:
    """Of one file: how many fields have been read of it."""

    def __init__(self) -> None:
        self._read = 0

    def fields(self, message: memoryview) -> Iterator[Field]:
        """The fields of a message, in their order. Raises LoadError for what is no message."""
        try:
            for field in protobuf.fields(message):
                self._read += 1
                if self._read > MAX_FIELDS:
                    raise LoadError("this file has more than %d fields, which no model of CNTK's has" % MAX_FIELDS)
                yield field
        except Malformed as error:
            raise broken(str(error)) from error


def varint(message: memoryview, place: int) -> Tuple[int, int]:
    """An unsigned number of up to 64 bits at a place, and the place after it. Raises LoadError."""
    try:
        return protobuf.varint(message, place)
    except Malformed as error:
        raise broken(str(error)) from error
