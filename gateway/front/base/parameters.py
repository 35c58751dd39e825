"""The request parameters that this server understands, for all protocols."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.errors import InvalidRequest

OPTION_NAMES = ("priority", "timeout", "signature", "signature_name")
_OPTIONS = frozenset(OPTION_NAMES)
# The integers that clients can send: int64 and uint64 over gRPC.
_PRIORITIES = range(-(1 << 63), 1 << 64)
# The range in frames to workers. Values outside are clamped.
_MIN_PRIORITY, _MAX_PRIORITY = -(1 << 31), (1 << 31) - 1
_TIMEOUTS = range(1 << 63)


class Options(NamedTuple):
    """The fields of InferRequest that parameters set. The deadline is in time.monotonic() seconds."""

    priority: int = 0
    deadline: float | None = None
    signature: str = ""


DEFAULTS = Options()


def read_options(parameters: Mapping[str, Any]) -> Options:
    """Read `priority`, `timeout` (microseconds; 0 for none) and `signature` (or TF Serving's `signature_name`).

    Other names are ignored, as the protocol requires. Raises InvalidRequest.
    """
    if not parameters or _OPTIONS.isdisjoint(parameters):
        return DEFAULTS
    priority = parameters.get("priority")
    if priority is None:
        priority = 0
    elif type(priority) is not int or priority not in _PRIORITIES:
        raise InvalidRequest("parameter 'priority' must be a 64-bit integer; requests with lower numbers run first")
    timeout = parameters.get("timeout")
    deadline = None
    if timeout is not None:
        if type(timeout) is not int or timeout not in _TIMEOUTS:
            raise InvalidRequest(
                "parameter 'timeout' must be a whole number of microseconds that fits into 64 bits, or 0 for none"
            )
        deadline = time.monotonic() + timeout / 1e6 if timeout else None
    signature = parameters.get("signature")
    if signature is None:
        signature = parameters.get("signature_name")
    if signature is None:
        signature = ""
    elif not isinstance(signature, str):
        raise InvalidRequest("parameter 'signature' must be a string, the name of one of the model's signatures")
    return Options(min(max(priority, _MIN_PRIORITY), _MAX_PRIORITY), deadline, signature)
