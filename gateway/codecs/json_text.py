"""JSON bytes to Python objects and back, with the literals NaN, Infinity and -Infinity.

orjson does both, save for those literals, which it neither reads nor writes; where they are
needed the standard library takes over.
"""

import json
import re
from typing import Any

import numpy as np
import orjson

from gateway.errors import InvalidRequest
from runtimes.tensors import Buffer

_LITERALS = np.array([b"NaN", b"Infinity", b"-Infinity"], dtype=object)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(body: Buffer) -> Any:
    """Raises InvalidRequest. Every string in the result can be encoded as UTF-8; a byte order mark is read over."""
    if body[:3] == b"\xef\xbb\xbf":
        body = memoryview(body)[3:]
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        text = bytes(body)
        if b"NaN" not in text and b"Infinity" not in text:
            raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    try:
        document = json.loads(text.decode())
        if _SURROGATE.search(text):
            # The standard library lets half a pair pass, which no answer could repeat.
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
    """The record without the keys that are null: many clients write so what they leave out."""
    return {key: value for key, value in record.items() if value is not None} if None in record.values() else record


def dumps(document: Any) -> bytes:
    """The document as JSON; numpy arrays and `numbers` may be anywhere in it."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def numbers(array: np.ndarray) -> Any:
    """Something that `dumps` writes as the array's nested lists, with literals for what is not finite."""
    if not array.ndim or not array.size:
        # orjson has no writing for arrays without a dimension, or with one of size 0.
        return orjson.Fragment(_with_literals(array, b"null")) if not np.isfinite(array).all() else array.tolist()
    text = dumps(array)
    # It writes what is not finite as null, and nothing else: cheaper to look for than to ask numpy before.
    return orjson.Fragment(_with_literals(array, text) if b"null" in text else text)


def _with_literals(array: np.ndarray, text: bytes) -> bytes:
    """`text`: the array, with null where it is not finite. No loop over the values runs in Python."""
    odd = array[~np.isfinite(array)]
    literals = _LITERALS[np.where(np.isnan(odd), 0, np.where(odd > 0, 1, 2))]
    return text.replace(b"null", b"%b") % tuple(literals.tolist())
