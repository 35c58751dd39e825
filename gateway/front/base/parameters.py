"""The request parameters that mean something here, whatever protocol they came by."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidRequest

OPTION_NAMES = ("priority", "timeout", "signature", "signature_name")
# What clients can write: over gRPC as int64 or uint64.
_PRIORITIES = range(-(1 << 63), 1 << 64)
# What workers are told. Whatever lies beyond is the nearest of these.
_FIRST, _LAST = -(1 << 31), (1 << 31) - 1
_TIMEOUTS = range(1 << 63)


@dataclass(frozen=True, slots=True)
class Options:
    """As in InferRequest: the deadline is in time.monotonic() seconds."""

    priority: int = 0
    deadline: float | None = None
    signature: str = ""


DEFAULTS = Options()


def read_options(parameters: Mapping[str, Any]) -> Options:
    """`priority`, `timeout` (microseconds; 0 is none) and `signature` (or TF Serving's `signature_name`).

    Other names are left to whoever knows them, as the protocol says. Raises InvalidRequest.
    """
    if not parameters:
        return DEFAULTS
    priority = _value(parameters, "priority", 0)
    if type(priority) is not int or priority not in _PRIORITIES:
        raise InvalidRequest("parameter 'priority' must be an integer of 64 bits; lower goes first")
    timeout = _value(parameters, "timeout", 0)
    if type(timeout) is not int or timeout not in _TIMEOUTS:
        raise InvalidRequest("parameter 'timeout' must be a whole number of microseconds of 64 bits, or 0 for none")
    signature = _value(parameters, "signature", _value(parameters, "signature_name", ""))
    if not isinstance(signature, str):
        raise InvalidRequest("parameter 'signature' must be a string, the name of one of the model's signatures")
    priority = min(max(priority, _FIRST), _LAST)
    return Options(priority, time.monotonic() + timeout / 1e6 if timeout else None, signature)


def _value(parameters: Mapping[str, Any], name: str, default: Any) -> Any:
    value = parameters.get(name)
    return default if value is None else value
