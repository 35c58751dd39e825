"""Converts between JSON bytes and Python objects, with the literals NaN, Infinity and -Infinity.

orjson does the work, but neither reads nor writes these literals. Documents that contain them are read by the standard
library, and `numbers` writes them.
"""

import json
import re
from typing import Any

import numpy as np
import orjson

from gateway.errors import InvalidRequest
from runtimes.tensors import Buffer

_LITERALS = np.array([b"NaN", b"Infinity", b"-Infinity"], dtype=object)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(body: Buffer) -> Any:
    """Parse JSON. A byte order mark is skipped. All strings can be encoded as UTF-8. Raises InvalidRequest."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        text = bytes(body)
        rest = text.removeprefix(_BYTE_ORDER_MARK)
        if len(rest) < len(text) and not rest.startswith(_BYTE_ORDER_MARK):  # one, not a body full of them
            return loads(rest)
        if b"NaN" not in text and b"Infinity" not in text:
            raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    try:
        document = json.loads(text.decode())
        if _SURROGATE.search(text):
            # The standard library accepts lone surrogates, which an answer could not contain. orjson rejects them.
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise InvalidRequest("the body is not valid JSON: it is nested too deep") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    except UnicodeError:
        raise InvalidRequest("the body is not valid JSON: its text is not valid UTF-8") from None
    except ValueError:
        raise InvalidRequest("the body is not valid JSON: a number has too many digits") from None
    return document


def without_nulls(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record without keys whose value is null: many clients send null for what they omit."""
    return {key: value for key, value in record.items() if value is not None} if None in record.values() else record


def dumps(document: Any) -> bytes:
    """Write a document as JSON. It may contain numpy arrays and results of `numbers`."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def numbers(array: np.ndarray) -> Any:
    """Return an object that `dumps` writes as the array's nested lists, with literals for non-finite values."""
    if not array.ndim or not array.size:
        # orjson does not write arrays without dimensions, or with a dimension of size 0.
        array = array.copy()  # see `_text`
        return orjson.Fragment(_literals(array)[0]) if not np.isfinite(array).all() else array.tolist()
    return orjson.Fragment(_text(array))


def number_list(array: np.ndarray) -> bytes:
    """Write an array of one dimension, with literals for non-finite values."""
    return _text(array) if array.size else b"[]"


def _text(array: np.ndarray) -> bytes:
    text = dumps(array)
    # orjson writes null for non-finite values and for nothing else. Searching for it is cheaper than numpy's isfinite.
    if b"null" not in text:
        return text
    literals = _literals(array)
    if len(literals) != text.count(b"null"):
        return _text(array.copy())  # its worker has changed it since (gateway/engine/result_memory.py)
    return _with_literals(text, literals)


def _literals(array: np.ndarray) -> list[bytes]:
    """Return the literals of the values that are not finite, without a loop over the values in Python."""
    non_finite = array[~np.isfinite(array)]
    found: list[bytes] = _LITERALS[np.where(np.isnan(non_finite), 0, np.where(non_finite > 0, 1, 2))].tolist()
    return found


def _with_literals(text: bytes, literals: list[bytes]) -> bytes:
    """Replace each null by its literal."""
    return text.replace(b"null", b"%b") % tuple(literals)
