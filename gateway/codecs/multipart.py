"""Reads multipart/form-data, the format in which browsers and curl's -F send files."""

from typing import TYPE_CHECKING, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.errors import InvalidRequest
from runtimes.tensors import Buffer

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# Each part costs a few microseconds, and far more if it is an image.
MAX_PARTS = 256


class Part:
    """One field of a form."""

    def __init__(self) -> None:
        self.name = ""
        self.content = bytearray()


def read_form(body: Buffer, content_type: str) -> list[Part]:
    """Return the fields of a form in order, at least one. Raises InvalidRequest."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("the Content-Type of the form has no boundary; let the client library set that header")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, cast("MultipartCallbacks", reader.callbacks()))
        parser.write(bytes(body))
        parser.finalize()
    except (FormParserError, ValueError):
        raise InvalidRequest("the body is not valid multipart/form-data") from None
    if not reader.parts or not reader.complete:
        raise InvalidRequest("the form ends before its last boundary, or has no field; send all of it")
    return reader.parts


class _Reader:
    """Collects the parts from the parser's callbacks."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.complete = False
        self._header, self._value = b"", b""

    def callbacks(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in dir(self) if name.startswith("on_")}

    def on_part_begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise InvalidRequest(f"the form has more than {MAX_PARTS} fields; send fewer files at a time")
        self.parts.append(Part())

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self.parts[-1].name = parse_options_header(self._value)[1].get(b"name", b"").decode(errors="replace")
        self._header, self._value = b"", b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].content += memoryview(data)[start:end]

    def on_end(self) -> None:
        self.complete = True
