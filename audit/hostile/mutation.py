"""Changes valid requests: bytes, JSON documents and protobuf messages. The same generator yields the same change."""

import copy
import json
from collections.abc import Sequence
from random import Random
from typing import Any

from google.protobuf import message_factory

TOKENS = (
    b"\0", b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\t", b"%00", b"%2e%2e%2f", b"../", b"//", b"?", b"#", b"&", b"=", b":",
    b",", b"[", b"]", b"{", b"}", b'"', b"\\", b"-1", b"0", b"9" * 19, b"1e999", b"NaN", b"null", b"true", b"\xff",
    b"\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"chunked", b"gzip", b"0\r\n\r\n", b"f" * 16,
    b"A" * 300, b"HTTP/1.1", b"HTTP/0.9", b"PRI * HTTP/2.0",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 255, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1,
    10**40, 1e308, float("nan"), float("inf"), "", "x", "m", "1", "-1", "1e5", "FP32", "BYTES", "\0", "é", "\ud800",
    "../../x", "a" * 5000, [], {}, [[]], [None], [1, "a"], {"": 0}, {"b64": "!"}, {"b64": "AAAA"}, {"b64": 3},
)  # fmt: skip
_MAX_BYTES = 1 << 20


def mutated_bytes(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Change one to four places; `others` are valid data whose parts may replace some."""
    for _ in range(rng.randint(1, 4)):
        at, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
        end = min(end, at + rng.choice((1, 4, 16, 1 << 20)))
        operation = rng.randrange(7)
        if operation == 0 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        elif operation == 1:
            data = data[:at] + data[end:]
        elif operation == 2:
            data = data[:end] + data[at:end] * rng.choice((1, 2, 30)) + data[end:]
        elif operation == 3:
            data = data[:at] + rng.choice(TOKENS) + data[at:]
        elif operation == 4:
            data = data[:at] + rng.choice(TOKENS) + data[end:]
        elif operation == 5:
            data = data[:at] + rng.randbytes(rng.choice((1, 2, 8, 100))) + data[end:]
        elif others:
            other = rng.choice(others)
            data = data[:at] + other[rng.randint(0, len(other)) :]
        data = data[:_MAX_BYTES]
    return data


def mutated_json(rng: Random, text: bytes) -> bytes:
    """Change one to three values, keys or lists of a document."""
    document = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(document))
        if not places:
            return json.dumps(rng.choice(VALUES)).encode()
        parent, key = rng.choice(places)
        value = parent[key]
        operation = rng.randrange(7)
        if operation <= 1:
            parent[key] = copy.deepcopy(rng.choice(VALUES))
        elif operation == 2:
            del parent[key]
        elif operation == 3:
            parent[key] = [value]
            for _ in range(rng.choice((0, 1, 40, 100))):
                parent[key] = [parent[key]]
        elif operation == 4 and isinstance(parent, dict):
            parent[rng.choice(("", "x", "inputs", "parameters", "é", "k" * 300))] = value
        elif operation == 5 and isinstance(value, list):
            parent[key] = (value * rng.choice((2, 3, 500)))[:5000]
        else:
            other, name = rng.choice(places)
            parent[key] = copy.deepcopy(other[name])
    dumped = json.dumps(document)
    if rng.random() < 0.1:  # the same key twice
        dumped = dumped.replace('"inputs":', f'"inputs": {json.dumps(rng.choice(VALUES))}, "inputs":', 1)
    raw = dumped.encode()
    if rng.random() < 0.02:  # nested deeply, and perhaps closed
        depth = rng.choice((1000, 100_000))
        raw = raw.replace(b"[", b"[" * depth, 1).replace(b"]", b"]" * rng.choice((1, depth)), 1)
    return raw[:_MAX_BYTES]


def _places(document: Any, depth: int = 0) -> "list[tuple[Any, Any]]":
    """Return (container, key or index) of each value."""
    found: list[tuple[Any, Any]] = []
    if not isinstance(document, dict | list):
        return found
    for key, value in list(document.items() if isinstance(document, dict) else enumerate(document))[:50]:
        found.append((document, key))
        if depth < 20:
            found += _places(value, depth + 1)
    return found


def mutated_message(rng: Random, message: Any) -> bytes:
    """Change one to three fields of a protobuf message, anywhere in it."""
    message = copy.deepcopy(message)
    for _ in range(rng.randint(1, 3)):
        inner = message
        while True:
            children = [child for _, field in inner.ListFields() for child in _messages(field)]
            if not children or rng.random() < 0.4:
                break
            inner = rng.choice(children)
        try:
            _change(rng, inner, rng.choice(inner.DESCRIPTOR.fields or [None]))
        except (TypeError, ValueError, AttributeError, OverflowError):
            continue  # not every value fits every field
    raw: bytes = message.SerializeToString()
    return raw[:_MAX_BYTES]


def _messages(field: Any) -> list[Any]:
    if hasattr(field, "ListFields"):
        return [field]
    values = field.values() if hasattr(field, "values") else field if hasattr(field, "__len__") else ()
    return [each for each in values if hasattr(each, "ListFields")]


def _change(rng: Random, message: Any, field: Any) -> None:
    if field is None:
        return
    repeated = hasattr(getattr(message, field.name), "extend")
    if rng.random() < 0.2:
        message.ClearField(field.name)
    elif field.message_type is not None:
        if repeated:
            empty = message_factory.GetMessageClass(field.message_type)()
            getattr(message, field.name).extend([empty] * rng.choice((1, 2, 200)))
        else:
            getattr(message, field.name).SetInParent()
    else:
        text = rng.choice([value for value in VALUES if isinstance(value, str) and value != "\ud800"])
        choices: tuple[Any, ...] = (text, text.encode(), rng.choice((0, -1, 1, 2**31, 2**32 - 1, 2**63 - 1, -(2**63))),
                                    0.5, float("nan"), True)  # fmt: skip
        value = rng.choice(choices)
        if repeated:
            getattr(message, field.name).extend([value] * rng.choice((1, 2, 33, 5000)))
        else:
            setattr(message, field.name, value)
