"""The frames exchanged by fronts, workers and the supervisor.

A frame is a fixed header (body length, version, kind, flags, request id) followed by a body. Control frames and
errors carry JSON. Requests and results carry a few numbers, then their layout (names, datatypes, shapes: everything
but the tensors' bytes), then the bytes of the tensors. Each tensor starts on a 16-byte boundary. With the flag
IN_ARENA, offsets into the front's arena replace the bytes.

One frame can carry any number of requests, or results, with the same layout (layouts.py). Nothing is pickled, so
neither side has to trust the other's Python.
"""

import json
import struct
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.contract import Signature, TensorSpec
from runtimes.layouts import (
    ALIGNMENT,
    GroupedTensors,
    RowGroup,
    TensorGroup,
    TensorLayout,
    layout_of,
    pack_layout,
    pack_tensors,
    unpack_layout,
)
from runtimes.tensor_bytes import Buffer, Tensor

VERSION = 5
HEADER = struct.Struct("<QBBHIQ")  # body length, version, kind, flags, reserved, request id

# Between supervisor and worker, once or rarely. The body is a record of control.py as JSON. A worker sends READY again
# when what it reported changes, because batching turned out to be unsafe. The supervisor then sends BATCHING_OFF to
# the other workers of that version.
LOAD, READY, FAILED, LEARNED, STOP, BATCHING_OFF = 1, 2, 3, 4, 5, 6
# Between front and worker, for each request.
INFER, CANCEL, RESULT, ERROR = 16, 17, 18, 19
# The first frame of a front: path and size of its arena, as JSON. The worker replies with ARENA once it has mapped it.
ARENA = 20

# Flags of INFER. ISOLATED: run this request in a batch of its own, because it may have killed a worker. IN_ARENA: the
# tensors are in the arena, at the offsets in the frame.
ISOLATED, IN_ARENA = 1, 2
# Flags of RESULT. FIRST_OF_BATCH: the frame holds the first result of its batch; fronts count executions by it.
# FINAL: the requests in it get no further result (today every result is final). BY_ROWS: the layout is that of a single
# row, and the number of rows of each result follows it.
FIRST_OF_BATCH, FINAL, BY_ROWS = 1, 2, 4

# Number of requests, length of the layout; then id, deadline and priority of each request.
_INFER, _INFER_ENTRY = struct.Struct("<II8x"), struct.Struct("<Qdi4x")
# Compute input, infer and output (ns), rows of the batch, number of results, length of the layout; then request id and
# time in the queue (ns) of each result.
_RESULT, _RESULT_ENTRY = struct.Struct("<QQQIII4x"), struct.Struct("<QQ")
_PADDING = b"\0" * (ALIGNMENT // 2)


class Frame(NamedTuple):
    """A frame as received. `id` is that of its request, or of the first one if it has several; 0 for control frames."""

    kind: int
    flags: int
    id: int
    body: memoryview


class InferFrame(NamedTuple):
    """A request.

    deadline: time.monotonic() seconds, which all processes of a machine share. priority: lower values run first.
    layout: None if not computed yet. Frames with equal layouts refer to the same object.
    """

    deadline: float
    priority: int
    signature: str
    outputs: Sequence[str]
    inputs: Sequence[Tensor]
    layout: Optional[TensorLayout] = None


class RequestGroup(NamedTuple):
    """The requests in one frame.

    numbers, deadlines, priorities: of each request, its id and the rest as in InferFrame. Signature and requested
    outputs are in the layout of `inputs`.
    """

    numbers: Tuple[int, ...]
    deadlines: Tuple[float, ...]
    priorities: Tuple[int, ...]
    inputs: TensorGroup


class ResultFrame(NamedTuple):
    """A result. Durations are in nanoseconds.

    Results that share a frame ran in the same batch, so that only `queue_ns` and the outputs' bytes differ.

    batch_rows: rows of the batch in which the request ran. layout: as in InferFrame. final: whether this is the
    request's last result; it is sent as a flag of the header, and therefore takes no bytes.
    """

    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    batch_rows: int
    outputs: List[Tensor]
    layout: Optional[TensorLayout] = None
    final: bool = True


class ResultGroup(NamedTuple):
    """The results in one frame, which ran in the same batch. Durations are in nanoseconds.

    numbers, queue_ns: of each result, its request's id and time in the worker's queue; the rest is as in ResultFrame.
    """

    numbers: Tuple[int, ...]
    queue_ns: Tuple[int, ...]
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    batch_rows: int
    outputs: TensorGroup
    final: bool = True


class WireError(Exception):
    """The peer speaks another version of this protocol."""


def pack(kind: int, request_id: int, body: Sequence[Buffer] = (), flags: int = 0) -> List[Buffer]:
    """Return the buffers to write, in order."""
    length = sum(map(len, body))
    return [HEADER.pack(length, VERSION, kind, flags, 0, request_id), *body]


def pack_json(kind: int, body: Dict[str, Any], request_id: int = 0) -> bytes:
    """Return a frame with a JSON body, padded so that tensors of frames read together with it are aligned."""
    text = json.dumps(body).encode()
    return b"".join(pack(kind, request_id, [text, b" " * (-len(text) % (ALIGNMENT // 2))]))


def unpack_json(body: Buffer) -> Dict[str, Any]:
    return json.loads(bytes(body).decode())


def signature_from_json(raw: Sequence[Any]) -> Signature:
    """Return the signature that JSON wrote as [inputs, outputs, refused], since a Signature is a tuple."""
    inputs, outputs, refused = raw
    return Signature(specs_from_json(inputs), specs_from_json(outputs), refused)


def specs_from_json(raw: Sequence[Any]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, datatype, None if shape is None else tuple(shape)) for name, datatype, shape in raw)


class FrameReader:
    """Splits a stream of bytes into frames."""

    def __init__(self) -> None:
        self._partial = bytearray()  # the start of a frame that is not complete yet
        self._needed = HEADER.size  # bytes that `_partial` must have for its next step: a header, or a whole frame

    def feed(self, data: bytes) -> List[Frame]:
        """Return the frames that `data` completes. Their bodies stay valid. Raises WireError."""
        source: Buffer = data
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed:
                return []
            source = self._partial
        frames = []
        start, size, view = 0, len(source), memoryview(source)
        while size - start >= HEADER.size:
            length, version, kind, flags, _, request_id = HEADER.unpack_from(source, start)
            if version != VERSION:
                raise WireError("the peer speaks version %d of the wire protocol, not %d" % (version, VERSION))
            self._needed = HEADER.size + length
            end = start + self._needed
            if size < end:
                break
            frames.append(Frame._make((kind, flags, request_id, view[start + HEADER.size : end])))
            start = end
        else:
            self._needed = HEADER.size
        if not start and source is not data:
            view.release()  # a bytearray with a live view cannot grow
        elif start < size or source is not data:
            # The frames hold views of `source`, so the remaining bytes move to a new buffer.
            self._partial = bytearray(view[start:])
        return frames


def pack_infer(requests: Sequence[Tuple[int, InferFrame]], flags: int = 0, offsets: Sequence[int] = ()) -> List[Buffer]:
    """Return the buffers of one INFER frame with these (id, request), which must have the same layout.

    With the flag IN_ARENA there must be exactly one request; `offsets` are those of its inputs in the arena.
    """
    first = requests[0][1]
    layout = first.layout or layout_of(first.signature, first.outputs, first.inputs)
    numbers = [(number, frame.deadline, frame.priority) for number, frame in requests]
    inputs = [[tensor.data for tensor in frame.inputs] for _, frame in requests]
    return pack_requests(numbers, layout, inputs, flags, offsets)


def pack_requests(
    numbers: Sequence[Tuple[int, float, int]],
    layout: TensorLayout,
    inputs: Sequence[Sequence[Buffer]],
    flags: int = 0,
    offsets: Sequence[int] = (),
) -> List[Buffer]:
    """Do what `pack_infer` does, given their (id, deadline, priority), layout, and the bytes of their inputs."""
    packed = pack_layout(layout)
    parts = [_INFER.pack(len(numbers), len(packed))]
    parts += [_INFER_ENTRY.pack(*each) for each in numbers]
    if not len(numbers) % 2:
        parts.append(_PADDING)  # otherwise the layout, and therefore the tensors, would not be aligned
    parts.append(packed)
    if flags & IN_ARENA:
        parts.append(struct.pack("<%dQ" % len(offsets), *offsets))
        return pack(INFER, numbers[0][0], [b"".join(parts)], flags)
    body: List[Buffer] = [b"".join(parts)]
    return pack(INFER, numbers[0][0], body + pack_tensors(layout, inputs), flags)


def unpack_requests(body: memoryview, arena: Optional[memoryview] = None) -> RequestGroup:
    """Return the requests of an INFER frame. `arena` must be given if, and only if, it has the flag IN_ARENA."""
    count, length = _INFER.unpack_from(body)
    position = _INFER.size + _INFER_ENTRY.size * count
    numbers, deadlines, priorities = zip(*_INFER_ENTRY.iter_unpack(body[_INFER.size : position]))
    if not count % 2:
        position += len(_PADDING)
    layout = unpack_layout(body[position : position + length].tobytes())
    position += length
    if arena is None:
        return RequestGroup(numbers, deadlines, priorities, TensorGroup(layout, count, body, position))
    offsets = struct.unpack_from("<%dQ" % len(layout[2]), body, position)
    return RequestGroup(numbers, deadlines, priorities, TensorGroup(layout, count, arena, 0, offsets))


def unpack_infer(body: memoryview, arena: Optional[memoryview] = None) -> List[Tuple[int, InferFrame]]:
    """Return the (id, request) of an INFER frame, as `unpack_requests` does."""
    group = unpack_requests(body, arena)
    layout = group.inputs.layout
    return [
        (number, InferFrame(deadline, priority, layout[0], layout[1], GroupedTensors(group.inputs, member), layout))
        for member, (number, deadline, priority) in enumerate(zip(*group[:3]))
    ]


def pack_result(results: Sequence[Tuple[int, ResultFrame]], flags: int = 0) -> List[Buffer]:
    """Return the buffers of one RESULT frame with these (request id, result).

    They must come from the same batch, have the same layout, and be either all final or all not.
    """
    first = results[0][1]
    outputs: List[Buffer] = [tensor.data for tensor in first.outputs]
    if len(results) > 1:
        outputs = [b"".join([frame.outputs[index].data for _, frame in results]) for index in range(len(outputs))]
    numbers, queue_ns = [number for number, _ in results], [frame.queue_ns for _, frame in results]
    return pack_grouped_results(numbers, queue_ns, first, outputs, flags)


def pack_grouped_results(
    numbers: Sequence[int],
    queue_ns: Sequence[int],
    common: ResultFrame,
    outputs: Sequence[Buffer],
    flags: int,
    counts: Sequence[int] = (),
) -> List[Buffer]:
    """Do what `pack_result` does for results whose bytes are contiguous already: one buffer of `outputs` per tensor.

    `common` has what the results share, except for their outputs. If they differ in their rows, `counts` has those of
    each, and the layout is that of a single row.
    """
    _, input_ns, infer_ns, output_ns, rows, tensors, layout, final = common
    packed = pack_layout(layout or layout_of("", (), tensors))
    body: List[Buffer] = [_RESULT.pack(input_ns, infer_ns, output_ns, rows, len(numbers), len(packed))]
    body += map(_RESULT_ENTRY.pack, numbers, queue_ns)
    body.append(packed)
    if counts:
        flags |= BY_ROWS
        body.append(struct.pack("<%dI" % len(counts), *counts) + b"\0" * (-4 * len(counts) % ALIGNMENT))
    for buffer in outputs:
        body.append(buffer)
        gap = -len(buffer) % ALIGNMENT
        if gap:
            body.append(b"\0" * gap)
    return pack(RESULT, numbers[0], body, flags | FINAL if final else flags)


def unpack_results(body: memoryview, flags: int = FINAL) -> ResultGroup:
    """Return the results of a RESULT frame with these flags."""
    gather, infer, split, rows, count, length = _RESULT.unpack_from(body)
    position = _RESULT.size + _RESULT_ENTRY.size * count
    layout = unpack_layout(bytes(body[position : position + length]))
    each = struct.unpack_from("<%dQ" % (2 * count), body, _RESULT.size)
    position += length
    if flags & BY_ROWS:
        counts = struct.unpack_from("<%dI" % count, body, position)
        position += 4 * count + -4 * count % ALIGNMENT
        outputs: TensorGroup = RowGroup(layout, counts, body, position)
    else:
        outputs = TensorGroup(layout, count, body, position)
    return ResultGroup(each[::2], each[1::2], gather, infer, split, rows, outputs, bool(flags & FINAL))


def unpack_result(body: memoryview, flags: int = FINAL) -> List[Tuple[int, ResultFrame]]:
    """Return the (request id, result) of a RESULT frame with these flags."""
    group = unpack_results(body, flags)
    results = []
    for index, (number, queue_ns) in enumerate(zip(group.numbers, group.queue_ns)):
        outputs, layout = list(GroupedTensors(group.outputs, index)), group.outputs.layout_of(index)
        results.append((number, ResultFrame(queue_ns, *group[2:6], outputs, layout, group.final)))
    return results
