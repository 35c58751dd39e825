"""The request parameters that this server understands, for all protocols."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateway.domain.types import NO_PARAMETERS, InferRequest, Parameters
from gateway.errors import InvalidRequest
from runtimes.contract import SequenceControl
from runtimes.tensor_bytes import Tensor

_OPTIONS = frozenset(["priority", "timeout", "signature", "signature_name"])
_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")
# Parameters that protocols define. Models get only the others, which are the client's own.
DEFINED = _OPTIONS | frozenset(
    [
        *_SEQUENCE,
        "binary_data",
        "binary_data_output",
        "binary_data_size",
        "classification",
        "shared_memory_region",
        "shared_memory_offset",
        "shared_memory_byte_size",
    ]
)
DEFINED_PREFIX = "triton_"
# As in Triton.
_MAX_SEQUENCE_ID_BYTES = 128
_SEQUENCE_IDS = range(1 << 64)
# The integers that clients can send: int64 and uint64 over gRPC.
_PRIORITIES = range(-(1 << 63), 1 << 64)
# The range in frames to workers. Values outside are clamped.
_MIN_PRIORITY, MAX_PRIORITY = -(1 << 31), (1 << 31) - 1
_TIMEOUTS = range(1 << 63)


class Options(NamedTuple):
    """The fields of InferRequest that parameters set. The deadline is in time.monotonic() seconds."""

    priority: int = 0
    deadline: float | None = None
    signature: str = ""
    parameters: Parameters = NO_PARAMETERS
    sequence: SequenceControl | None = None

    def request(
        self, model: str, version: str, inputs: Sequence[Tensor], request_id: str = "", outputs: Sequence[str] = ()
    ) -> InferRequest:
        """Return a request with these options."""
        priority, deadline, signature, parameters, sequence = self
        return InferRequest(
            model, inputs, version, request_id, outputs, signature, priority, deadline, None, None, parameters, sequence
        )


DEFAULTS = Options()


def read_options(parameters: Mapping[str, Any]) -> Options:
    """Read `priority`, `timeout` (microseconds; 0 for none), `signature` (or TF Serving's `signature_name`) and the
    sequence.

    Other names are the client's own; models that do not take them ignore them, as the protocol requires. Raises
    InvalidRequest.
    """
    if not parameters:
        return DEFAULTS
    own = {
        name: value
        for name, value in parameters.items()
        if name not in DEFINED and not name.startswith(DEFINED_PREFIX) and value is not None
    }
    if len(own) == len(parameters):
        return Options(parameters=own)
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
    priority = min(max(priority, _MIN_PRIORITY), MAX_PRIORITY)
    return Options(priority, deadline, signature, own, _sequence(parameters))


def _sequence(parameters: Mapping[str, Any]) -> SequenceControl | None:
    """Return the sequence, if the request has the id of one: 0 and "" are none. Raises InvalidRequest."""
    start, end = parameters.get("sequence_start") or False, parameters.get("sequence_end") or False
    for name, value in (("sequence_start", start), ("sequence_end", end)):
        if value is not True and value is not False:
            raise InvalidRequest(f"parameter '{name}' must be true or false")
    number = parameters.get("sequence_id") or 0
    if isinstance(number, str):
        if len(number.encode()) > _MAX_SEQUENCE_ID_BYTES:
            raise InvalidRequest(f"parameter 'sequence_id' is longer than {_MAX_SEQUENCE_ID_BYTES} bytes")
    elif type(number) is not int or number not in _SEQUENCE_IDS:
        raise InvalidRequest("parameter 'sequence_id' must be a string, or a whole number that fits into 64 bits")
    return SequenceControl(number, start, end) if number else None
