"""The frames that carry requests of models to other models of the gateway.

A CALL frame has the id of the request that the worker runs. Its body is a record as JSON, then the number that the
worker gave to the call and its tensors, as in a RESULT frame.
"""

import json
import struct
from typing import Any, List, Sequence, Tuple

from runtimes import result_frames, wire
from runtimes.contract import Call, SequenceControl
from runtimes.layouts import ALIGNMENT, GroupedTensors
from runtimes.tensor_bytes import Buffer, Tensor

# Calls that one request may have in progress. With fewer, models that send many at once wait more often; all of them
# may be in memory.
MAX_CALLS = 64
_LENGTH = struct.Struct("<Q8x")  # of the record, with what aligns it


def pack_call(request_id: int, number: int, call: Call, inputs: Sequence[Tensor]) -> List[Buffer]:
    """Return the buffers of the CALL frame of a call in the name of a request."""
    record = json.dumps(call._asdict()).encode()
    record += b" " * (-len(record) % ALIGNMENT)
    tensors = result_frames.pack_result([(number, result_frames.ResultFrame(0, 0, 0, 0, 1, list(inputs)))])[1:]
    return wire.pack(wire.CALL, request_id, [_LENGTH.pack(len(record)) + record, *tensors])


def unpack_call(body: memoryview) -> Tuple[int, Call, List[Tensor]]:
    """Return the number, the call and the inputs of a CALL frame.

    Raises one of wire.MALFORMED, since a hostile worker can send anything.
    """
    (length,) = _LENGTH.unpack_from(body)
    call = Call(**wire.unpack_json(body[_LENGTH.size : _LENGTH.size + length]))
    group = result_frames.unpack_results(body[_LENGTH.size + length :])
    if len(group.numbers) != 1 or not _is_valid(call):
        raise wire.WireError("a call is malformed")
    sequence = None if call.sequence is None else SequenceControl(*call.sequence)
    call = call._replace(outputs=tuple(call.outputs), sequence=sequence)
    return group.numbers[0], call, list(GroupedTensors(group.outputs, 0))


def _is_valid(call: Call) -> bool:
    outputs, parameters = call.outputs, call.parameters
    sequence: Any = call.sequence  # JSON has made a list of it
    if not (isinstance(outputs, list) and isinstance(parameters, dict)):
        return False
    texts = [call.model, call.version, call.id, *outputs, *parameters]
    if sequence is not None:
        if not (isinstance(sequence, list) and [type(each) for each in sequence[1:]] == [bool, bool]):
            return False
        if type(sequence[0]) is not int:
            texts.append(sequence[0])
    texts += [each for each in parameters.values() if not isinstance(each, (bool, int, float))]
    if not all([isinstance(text, str) and text.encode() is not None for text in texts]):  # or UnicodeEncodeError
        return False
    return (
        type(call.priority) is int
        and 0 <= call.priority < 1 << 32
        and type(call.timeout_s) in (int, float)
        and 0 <= call.timeout_s < 1e9
        and type(call.takes_many) is bool
    )
