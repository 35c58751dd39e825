"""Texts as numbers and lists, such as the fields of CSV.

A number is what JSON has as one, and what programs write into CSV: a sign in front, zeros in front, a point without
digits on one side, nan, inf, true and false in any case. Nothing else is: neither 0x10, which Arrow reads as 16, nor
1_000, which Python reads as 1000.
"""

import re
from math import isinf
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from gateway.codecs import json_text
from gateway.errors import InvalidRequest

# What Arrow may read all at once. Others are read one by one, as are infinities: one may be a number that is too large.
_PLAIN = {
    "int": "^-?[0-9]+$",
    "uint": "^[0-9]+$",
    "float": "^([-+.0-9eE]+|-?[nN][aA][nN])$",
    "bool": "^([01]|[tT][rR][uU][eE]|[fF][aA][lL][sS][eE])$",
}
_INTEGER = re.compile("[-+]?[0-9]+")
_BOOLEANS = {"true": True, "false": False}
# From here on, not all integers are floats.
_INEXACT = 1 << 53


class NotAtOnce(Exception):
    """Some rows do not fit, or their shapes differ."""


def integers(kind: str) -> pa.DataType:
    """Return the widest integers: what is out of an input's range must not be wrapped around."""
    return {"int": pa.int64(), "uint": pa.uint64()}[kind]


def numbers_of(texts: pa.Array, kind: str) -> pa.Array:
    """Return the numbers that the texts are, for datatypes of a kind. Raises NotAtOnce, ArrowInvalid."""
    texts = pc.utf8_trim_whitespace(pc.cast(texts, pa.string()))
    if not pc.all(pc.match_substring_regex(texts, _PLAIN[kind])).as_py():
        raise NotAtOnce
    values = pc.cast(texts, {"float": pa.float64(), "bool": pa.bool_()}.get(kind) or integers(kind))
    if kind == "float" and pc.any(pc.is_inf(values)).as_py():
        raise NotAtOnce
    return values


def lists_of(texts: pa.Array) -> np.ndarray:
    """Return what texts of JSON say, if they are lists of one shape. Raises NotAtOnce."""
    texts = pc.utf8_trim_whitespace(pc.cast(texts, pa.string()))
    if not pc.all(pc.and_(pc.starts_with(texts, "["), pc.ends_with(texts, "]"))).as_py():
        raise NotAtOnce
    try:
        array = np.array(orjson.loads("[" + ",".join(texts.to_pylist()) + "]"))
    except ValueError:
        raise NotAtOnce from None
    if len(array) != len(texts) or array.dtype.kind not in "biuf":
        raise NotAtOnce
    return array


def parsed(name: str, value: Any, exact: bool = False) -> Any:
    """Return the number, or the lists, that a text such as a field of CSV has. Raises InvalidRequest.

    exact  whether integers are wanted, so that a float which may be another number than the text is refused
    """
    if isinstance(value, list):
        return [parsed(name, each, exact) for each in value]
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    value = (value or "").strip()
    if not value:
        raise InvalidRequest(f"input '{name}' is null")
    shown = value if len(value) <= 40 else value[:37] + "..."
    found = _parsed(name, value, shown)
    if exact and _has_inexact(found):
        raise InvalidRequest(
            f"input '{name}' is the text '{shown}', whose floats are too large to be exact; write integers beyond 2^53 "
            "without a point or an exponent"
        )
    return found


def _parsed(name: str, value: str, shown: str) -> Any:
    if value.lower() in _BOOLEANS:
        return _BOOLEANS[value.lower()]
    try:
        return json_text.loads(value.encode())
    except InvalidRequest:
        pass
    try:
        if "_" in value or not value.isascii():
            raise ValueError
        if _INTEGER.fullmatch(value):
            return int(value)
        number = float(value)  # also nan, inf and .5
    except ValueError:
        raise InvalidRequest(f"input '{name}' is the text '{shown}', which is not a number") from None
    if isinf(number) and "inf" not in value.lower():
        raise InvalidRequest(f"input '{name}' is the text '{shown}', which is too large for a number")
    return number


def _has_inexact(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_inexact, value))
    return isinstance(value, float) and _INEXACT <= abs(value) < float("inf")
