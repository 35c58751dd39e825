"""The fields of a request's body by TorchServe's rules: those of a form by their names, anything else as `body`."""

import json
import re
from typing import Any, List, NamedTuple
from urllib.parse import parse_qsl

from runtimes.contract import InvalidInput

_FORM, _URL_ENCODED, _JSON = "multipart/form-data", "application/x-www-form-urlencoded", "application/json"
_MAX_FIELDS = 256
_PARAMETER = re.compile(r';\s*([\w*-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)')


class Field(NamedTuple):
    """content_type: without parameters; "" if there is none."""

    name: str
    content_type: str
    content: bytes

    def value(self) -> Any:
        """Return JSON as what it says, text as text, and everything else, also what is neither, as bytes."""
        try:
            if self.content_type == _JSON:
                return json.loads(self.content.decode())
            if self.content_type.startswith("text"):
                return self.content.decode()
        except (ValueError, RecursionError):
            pass
        return bytearray(self.content)


def read_fields(body: bytes, content_type: str) -> List[Field]:
    """Raises InvalidInput if a form is not valid."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _FORM:
        return _parts(body, _parameters(content_type).get("boundary", ""))
    if kind == _URL_ENCODED:
        try:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        except ValueError:
            raise InvalidInput("the body is not a valid form of at most %d fields" % _MAX_FIELDS) from None
        return [Field(name, "", value.encode(errors="surrogateescape")) for name, value in pairs]
    return [Field("body", kind, bytes(body))]


def _parts(body: bytes, boundary: str) -> List[Field]:
    invalid = InvalidInput("the body is not valid multipart/form-data of at most %d fields" % _MAX_FIELDS)
    line = b"\r\n--" + boundary.encode()
    parts = (b"\r\n" + body).split(line, _MAX_FIELDS + 2)
    if not boundary or not 2 < len(parts) <= _MAX_FIELDS + 2 or not parts[-1].startswith(b"--"):
        raise invalid
    found = []
    for part in parts[1:-1]:
        head, separator, content = part.partition(b"\r\n\r\n")
        headers = dict(_header(each) for each in head.split(b"\r\n") if b":" in each)
        disposition = _parameters(headers.get("content-disposition", ""))
        if not separator or "name" not in disposition:
            raise invalid
        kind = headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
        # What is no file has no type, whatever the client says.
        found.append(Field(disposition["name"], kind if "filename" in disposition else "", content))
    return found


def _header(line: bytes) -> "tuple[str, str]":
    name, _, value = line.decode(errors="replace").partition(":")
    return name.strip().lower(), value.strip()


def _parameters(value: str) -> "dict[str, str]":
    """Return the parameters of a header's value, such as the boundary of a form."""
    found = {}
    for name, text in _PARAMETER.findall(value):
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        found[name.lower()] = text
    return found
