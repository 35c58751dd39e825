"""The frames that cross the wall between a front, a worker and the supervisor.

A frame is a fixed header (body length, version, kind, flags, request id), then the body.
Control frames and errors carry JSON. Requests and answers carry a few numbers, then their form
(names, datatypes, shapes: all but the tensors' bytes), then the tensors' bytes, each tensor starting
on a 16-byte boundary; or, with the flag IN_ARENA, where these lie in the front's arena. The requests
of one client are all alike but for their bytes. So both sides remember forms, and one frame may
carry any number of requests, or answers, of one form: then the bytes of all of them for the first
tensor come first. Nothing is pickled: neither side has to trust the other's Python.
"""

import json
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES, Signature, TensorSpec
from runtimes.tensors import Buffer, Tensor

VERSION = 4
HEADER = struct.Struct("<QBBHIQ")  # body length, version, kind, flags, reserved, request id

# Supervisor and worker, once or seldom; the body is JSON, of a record in control.py.
# READY is sent again when its facts change: batching turned out not to hold. BATCHING_OFF has another worker of the
# same version follow.
LOAD, READY, FAILED, LEARNED, STOP, BATCHING_OFF = 1, 2, 3, 4, 5, 6
# Front and worker, per request.
INFER, CANCEL, RESULT, ERROR = 16, 17, 18, 19
# A front's first frame: the file of its arena, in JSON; and the worker's, once it has mapped it.
ARENA = 20

# An INFER frame's flags: run this request in a batch of its own (it may have killed a worker);
# the tensors lie in the arena, and the frame tells where.
ALONE, IN_ARENA = 1, 2
# A RESULT frame's flags: it holds the first answer of its batch, so that fronts can count executions;
# and its requests get no further answer (every answer is final today).
FIRST_OF_BATCH, FINAL = 1, 2


# How many, the form's length; then for each its id, deadline, priority.
_INFER, _REQUEST = struct.Struct("<II8x"), struct.Struct("<Qdi4x")
# Compute input, infer, output (ns), rows of the batch, how many, the form's length; then each one's id and queue (ns).
_RESULT, _ANSWER = struct.Struct("<QQQIII4x"), struct.Struct("<QQ")
_FORM = struct.Struct("<HHH")  # signature's length, outputs asked for, tensors
_TENSOR = struct.Struct("<HBBQ")  # name's length, datatype, rank, bytes
_CODES = {name: code for code, name in enumerate(DATATYPES)}
_DATATYPES = list(DATATYPES)
_ALIGNMENT = 16
_HALF = b"\0" * (_ALIGNMENT // 2)
_MAX_FORMS = 1024
# Longer ones, packed, are not remembered: the outputs asked for are of the client's making.
_MAX_FORM_BYTES = 4096


class Frame(NamedTuple):
    kind: int
    flags: int
    id: int
    body: memoryview


# What an INFER or RESULT frame is but for its numbers and the tensors' bytes: signature, outputs
# asked for, and each tensor's name, datatype, shape and length in bytes.
Form = Tuple[str, Tuple[str, ...], Tuple[Tuple[str, str, Tuple[int, ...], int], ...]]


class InferFrame(NamedTuple):
    """deadline: time.monotonic() seconds, one clock for all processes of a machine. priority: lower goes first."""

    deadline: float
    priority: int
    signature: str
    outputs: Sequence[str]
    inputs: Sequence[Tensor]
    form: Optional[Form] = None  # where it is known already; one object for all frames of that form


class ResultFrame(NamedTuple):
    """Durations in nanoseconds; batch_rows: how many rows the batch had in which this request ran.

    Those that share a frame share all but the queue's, having run together. final: no other answer to
    the request follows; a flag of the frame's header, so it takes no bytes.
    """

    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    batch_rows: int
    outputs: List[Tensor]
    form: Optional[Form] = None  # as in InferFrame
    final: bool = True


class WireError(Exception):
    """The other side does not speak this version of the wire."""


def pack(kind: int, request_id: int, body: Sequence[Buffer] = (), flags: int = 0) -> List[Buffer]:
    """The buffers to write, in order."""
    length = sum(len(part) for part in body)
    return [HEADER.pack(length, VERSION, kind, flags, 0, request_id)] + list(body)


def pack_json(kind: int, body: Dict[str, Any], request_id: int = 0) -> bytes:
    return b"".join(pack(kind, request_id, [json.dumps(body).encode()]))


def unpack_json(body: Buffer) -> Dict[str, Any]:
    return json.loads(bytes(body).decode())


def signature_from_json(raw: Sequence[Any]) -> Signature:
    """The other way needs nothing: a Signature is a tuple, so JSON writes it as [inputs, outputs, refused]."""
    inputs, outputs, refused = raw
    return Signature(specs_from_json(inputs), specs_from_json(outputs), refused)


def specs_from_json(raw: Sequence[Any]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, datatype, None if shape is None else tuple(shape)) for name, datatype, shape in raw)


class FrameReader:
    """Turns the bytes of a stream into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = HEADER.size

    def feed(self, data: bytes) -> List[Frame]:
        """The frames that `data` completes; their bodies stay valid. Raises WireError."""
        source: Buffer = data
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            source = self._rest
        frames = []
        start, size, view = 0, len(source), memoryview(source)
        while True:
            if size - start < HEADER.size:
                self._wanted = HEADER.size
                break
            length, version, kind, flags, _, request_id = HEADER.unpack_from(source, start)
            if version != VERSION:
                raise WireError("the other side speaks version %d of the wire, not %d" % (version, VERSION))
            end = start + HEADER.size + length
            if size < end:
                self._wanted = HEADER.size + length
                break
            frames.append(Frame(kind, flags, request_id, view[start + HEADER.size : end]))
            start = end
        if start or source is data:
            # The frames keep views of what was read, so the rest moves to a buffer of its own.
            self._rest = bytearray(view[start:])
        else:
            view.release()  # or the buffer could not grow
        return frames


def form_of(signature: str, outputs: Sequence[str], tensors: Sequence[Tensor]) -> Form:
    return signature, tuple(outputs), tuple([(t.name, t.datatype, tuple(t.shape), len(t.data)) for t in tensors])


_packed_forms = BoundedCache(_MAX_FORMS)  # type: BoundedCache[Form, bytes]
_read_forms = BoundedCache(_MAX_FORMS)  # type: BoundedCache[bytes, Form]


def _pack_form(form: Form) -> bytes:
    """Filled up, so that aligned bytes can follow."""
    packed = _packed_forms.entries.get(form)
    if packed is not None:
        return packed
    signature, outputs, tensors = form[0].encode(), [name.encode() for name in form[1]], form[2]
    parts = [_FORM.pack(len(signature), len(outputs), len(tensors)), signature]
    for output in outputs:
        parts += [struct.pack("<H", len(output)), output]
    for name, datatype, shape, size in tensors:
        raw = name.encode()
        parts += [_TENSOR.pack(len(raw), _CODES[datatype], len(shape), size), raw]
        parts.append(struct.pack("<%dq" % len(shape), *shape))
    packed = b"".join(parts)
    packed += b"\0" * (-len(packed) % _ALIGNMENT)
    if len(packed) <= _MAX_FORM_BYTES:
        _packed_forms.put(form, packed)
    return packed


def _unpack_form(packed: bytes) -> Form:
    form = _read_forms.entries.get(packed)
    if form is not None:
        return form
    signature_length, wanted, count = _FORM.unpack_from(packed)
    position = _FORM.size + signature_length
    signature = packed[_FORM.size : position].decode()
    outputs = []
    for _ in range(wanted):
        (length,) = struct.unpack_from("<H", packed, position)
        outputs.append(packed[position + 2 : position + 2 + length].decode())
        position += 2 + length
    tensors = []
    for _ in range(count):
        length, code, rank, size = _TENSOR.unpack_from(packed, position)
        position += _TENSOR.size
        name = packed[position : position + length].decode()
        position += length
        tensors.append((name, _DATATYPES[code], struct.unpack_from("<%dq" % rank, packed, position), size))
        position += 8 * rank
    form = signature, tuple(outputs), tuple(tensors)
    if len(packed) <= _MAX_FORM_BYTES:
        _read_forms.put(packed, form)
    return form


def _padded(form: Form, each: Sequence[Sequence[Tensor]]) -> List[Buffer]:
    """The bytes of all, tensor by tensor."""
    parts: List[Buffer] = []
    for index, (_, _, _, size) in enumerate(form[2]):
        parts += [tensors[index].data for tensors in each]
        gap = -size * len(each) % _ALIGNMENT
        if gap:
            parts.append(b"\0" * gap)
    return parts


def _tensors(form: Form, count: int, body: memoryview, position: int) -> List[List[Tensor]]:
    each: List[List[Tensor]] = [[] for _ in range(count)]
    for name, datatype, shape, size in form[2]:
        for tensors in each:
            tensors.append(Tensor(name, datatype, shape, body[position : position + size]))
            position += size
        position += -size * count % _ALIGNMENT
    return each


def pack_infer(requests: Sequence[Tuple[int, InferFrame]], flags: int = 0, places: Sequence[int] = ()) -> List[Buffer]:
    """Requests of one form, by id. With IN_ARENA among the flags it is one, whose inputs lie at these places."""
    first = requests[0][1]
    form = first.form or form_of(first.signature, first.outputs, first.inputs)
    packed = _pack_form(form)
    parts = [_INFER.pack(len(requests), len(packed))]
    parts += [_REQUEST.pack(number, frame.deadline, frame.priority) for number, frame in requests]
    if not len(requests) % 2:
        parts.append(_HALF)  # else the form, and so the tensors, would not be aligned
    parts.append(packed)
    if flags & IN_ARENA:
        parts.append(struct.pack("<%dQ" % len(places), *places))
        return pack(INFER, requests[0][0], [b"".join(parts)], flags)
    body: List[Buffer] = [b"".join(parts)]
    return pack(INFER, requests[0][0], body + _padded(form, [frame.inputs for _, frame in requests]), flags)


def unpack_infer(body: memoryview, arena: Optional[memoryview] = None) -> List[Tuple[int, InferFrame]]:
    """The requests by id. `arena` for a frame with the flag IN_ARENA, None for one without."""
    count, length = _INFER.unpack_from(body)
    at = _INFER.size + _REQUEST.size * count + (0 if count % 2 else len(_HALF))
    form = _unpack_form(bytes(body[at : at + length]))
    if arena is None:
        each = _tensors(form, count, body, at + length)
    else:
        places = struct.unpack_from("<%dQ" % len(form[2]), body, at + length)
        each = [
            [
                Tensor(name, datatype, shape, arena[place : place + size])
                for (name, datatype, shape, size), place in zip(form[2], places)
            ]
        ]
    signature, outputs = form[0], form[1]
    numbers = _REQUEST.iter_unpack(body[_INFER.size : _INFER.size + _REQUEST.size * count])
    return [
        (number, InferFrame(deadline, priority, signature, outputs, inputs, form))
        for (number, deadline, priority), inputs in zip(numbers, each)
    ]


def pack_result(results: Sequence[Tuple[int, ResultFrame]], flags: int = 0) -> List[Buffer]:
    """Answers of one form from one batch, by id of request: all of them final, or none."""
    first = results[0][1]
    if first.final:
        flags |= FINAL
    form = first.form or form_of("", (), first.outputs)
    packed = _pack_form(form)
    parts = [_RESULT.pack(first[1], first[2], first[3], first[4], len(results), len(packed))]
    parts += [_ANSWER.pack(number, frame[0]) for number, frame in results]
    parts.append(packed)
    body: List[Buffer] = [b"".join(parts)]
    return pack(RESULT, results[0][0], body + _padded(form, [frame.outputs for _, frame in results]), flags)


def unpack_result(body: memoryview, final: bool = True) -> List[Tuple[int, ResultFrame]]:
    """The answers by id of request. `final`: whether the frame has the flag FINAL."""
    gather, infer, split, rows, count, length = _RESULT.unpack_from(body)
    at = _RESULT.size + _ANSWER.size * count
    form = _unpack_form(bytes(body[at : at + length]))
    numbers = _ANSWER.iter_unpack(body[_RESULT.size : at])
    return [
        (number, ResultFrame(queue, gather, infer, split, rows, outputs, form, final))
        for (number, queue), outputs in zip(numbers, _tensors(form, count, body, at + length))
    ]
