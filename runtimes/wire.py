"""The frames exchanged by fronts, workers and the supervisor.

A frame is a fixed header (body length, version, kind, flags, request id) followed by a body. Control frames and
errors carry JSON. Requests and results carry a few numbers, then their layout (names, datatypes, shapes), the sizes of
tensors that consist of strings, and the bytes of the tensors. Each tensor starts on a 16-byte boundary. With the flag
IN_ARENA, offsets into the front's arena replace the bytes, and with IN_RESULT_MEMORY a range of the memory that worker
and front share for results.

One frame can carry any number of requests, or results, with the same layout (layouts.py). They may differ in their
rows and in the lengths of their strings. Nothing is pickled, so neither side has to trust the other's Python.
"""

import json
import struct
from functools import lru_cache
from itertools import accumulate
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.contract import Signature, TensorSpec
from runtimes.layouts import (
    ALIGNMENT,
    GroupedTensors,
    TensorGroup,
    TensorLayout,
    layout_of,
    pack_layout,
    pack_tensors,
    string_sizes,
    unpack_layout,
    unpacked_layouts,
)
from runtimes.tensor_bytes import Buffer, Tensor

VERSION = 8  # gateway/front/fast_path.pyx packs and unpacks frames of this version as well
HEADER = struct.Struct("<QBBHIQ")  # body length, version, kind, flags, reserved, request id

# Between supervisor and worker, once or rarely. The body is a record of control.py as JSON. A worker sends READY again
# when what it reported changes, because batching turned out to be unsafe. The supervisor then sends BATCHING_OFF to
# the other workers of that version.
LOAD, READY, FAILED, LEARNED, STOP, BATCHING_OFF = 1, 2, 3, 4, 5, 6
# Between front and worker, for each request.
INFER, CANCEL, RESULT, ERROR = 16, 17, 18, 19
# From a front, for a request with several answers: one more of them has been read by the client. It has no body.
ACK = 21
# From a front: a sequence that was to begin anew, and did not, ends (its id as JSON).
END_SEQUENCE = 22
# From a worker, for a request that it runs: a request of its model to another model (calls.py). The front answers with
# CALL_RESULT, which is like RESULT, or CALL_ERROR, like ERROR. These have the number of the call as their id, and so do
# CALL_ACK, by which the worker reports that its model has read an answer that was not the final one, and CALL_CANCEL,
# after which it wants no more of them.
CALL, CALL_RESULT, CALL_ERROR, CALL_ACK, CALL_CANCEL = 26, 27, 28, 29, 30
CALLS = (CALL, CALL_ACK, CALL_CANCEL)
# The first frame of a front: as JSON, the size of its arena and that of the memory for results, or 0. Their descriptors
# come with it. The worker replies with ARENA once it has mapped the arena.
ARENA = 20
# From a front: it no longer reads the results at this offset, which is in the header instead of a request id. It has no
# body.
RELEASE = 25

# Flags of INFER. ISOLATED: run this request in a batch of its own, because it may have killed a worker. IN_ARENA: the
# tensors are in the arena, at the offsets in the frame. WITH_CONTEXT: the frame has a context (context.py) for each
# request, after the sizes of strings: first the sizes of all contexts, then the contexts.
ISOLATED, IN_ARENA, WITH_CONTEXT = 1, 2, 4
# Flags of RESULT. FIRST_OF_BATCH: the frame holds the first result of its batch; fronts count executions by it.
# FINAL: the requests in it get no further result. A request with several answers gets a final result without outputs
# after them, which has FIRST_OF_BATCH and the duration of all. IN_RESULT_MEMORY: the tensors, which are numbers, are in
# the memory that the worker shares with the front, in the range that the frame states.
FIRST_OF_BATCH, FINAL, IN_RESULT_MEMORY = 1, 2, 4

# A worker computes no further answer to a request while the client has this many, or this many bytes, still to read.
# More of them hide the time that an acknowledgement takes; all of them may be in memory, for each request.
MAX_UNREAD_ANSWERS, MAX_UNREAD_BYTES = 16, 1 << 18

# Number of requests, number of tensors that are strings, length of the layout; then the ids, deadlines, priorities and
# rows of all requests.
_INFER = struct.Struct("<HHI")
# Compute input, infer and output (ns), rows of the batch, number of results, number of tensors that are strings, length
# of the layout; then the request ids, times in the queue (ns) and rows of all results.
_RESULT = struct.Struct("<QQQIIII")
# Offset and length, with IN_RESULT_MEMORY.
_RANGE = struct.Struct("<QQ")
# What writes the bytes of several tensors, each aligned, into the memory for results, and returns their range. It
# returns None if it has not done so: the tensors are small, or the memory is full.
PutResults = Callable[[Sequence[Buffer]], Optional[Tuple[int, int]]]
_PADDING = b"\0" * (ALIGNMENT // 2)
# Formats of these numbers that are kept, one for each number of requests in a frame.
_MAX_FORMATS = 512


@lru_cache(_MAX_FORMATS)
def _request_numbers(count: int) -> struct.Struct:
    return struct.Struct("<%dQ%dd%dq%dQ" % ((count,) * 4))


@lru_cache(_MAX_FORMATS)
def _result_numbers(count: int) -> struct.Struct:
    return struct.Struct("<%dQ" % (3 * count))


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
    context: packed, as in context.py.
    """

    deadline: float
    priority: int
    signature: str
    outputs: Sequence[str]
    inputs: Sequence[Tensor]
    layout: Optional[TensorLayout] = None
    context: Buffer = b""


class RequestGroup(NamedTuple):
    """The requests in one frame.

    numbers, deadlines, priorities: of each request, its id and the rest as in InferFrame. Signature and requested
    outputs are in the layout of `inputs`. Its rows are those that the front counts in the worker's window.
    contexts: of each request, packed as in context.py; empty if the frame has none.
    """

    numbers: Tuple[int, ...]
    deadlines: Tuple[float, ...]
    priorities: Tuple[int, ...]
    inputs: TensorGroup
    contexts: Sequence[Buffer] = ()


class ResultFrame(NamedTuple):
    """A result. Durations are in nanoseconds.

    Results that share a frame ran in the same batch, so that only `queue_ns` and the outputs' rows and bytes differ.

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

    numbers, queue_ns: of each result, its request's id and time in the worker's queue; the rest is as in ResultFrame,
    and `first_of_batch` the flag.
    """

    numbers: Tuple[int, ...]
    queue_ns: Tuple[int, ...]
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    batch_rows: int
    outputs: TensorGroup
    final: bool = True
    first_of_batch: bool = False


class WireError(Exception):
    """The peer speaks another version of this protocol, or sends what no peer of this version does."""


# What reading a frame raises if it is not one of this protocol: a hostile worker can send anything.
MALFORMED = (WireError, struct.error, ValueError, LookupError, TypeError, OverflowError, MemoryError, RecursionError)


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


def json_object(raw: Any) -> Dict[str, Any]:
    """Return what JSON had as an object. Raises WireError if it is none."""
    if not isinstance(raw, dict):
        raise WireError("a field of a message is no object")
    return raw


def signature_from_json(raw: Sequence[Any]) -> Signature:
    """Return the signature that JSON wrote as a list of its fields, since a Signature is a tuple."""
    inputs, outputs, refused, optional, needs, unbatched, json_names = raw
    return Signature(
        specs_from_json(inputs),
        specs_from_json(outputs),
        json_object(refused),
        tuple(optional),
        {output: tuple(names) for output, names in json_object(needs).items()},
        specs_from_json(unbatched),
        tuple(json_names),
    )


def specs_from_json(raw: Sequence[Any]) -> Tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, datatype, None if shape is None else tuple(shape)) for name, datatype, shape in raw)


class FrameReader:
    """Splits a stream of bytes into frames."""

    def __init__(self, max_bytes: int = 1 << 62) -> None:
        """`max_bytes`: a longer body is an error. Without a limit, only a peer that is trusted should be read from."""
        self.max_bytes = max_bytes
        self._partial = bytearray()  # the start of a frame that is not complete yet
        self._needed = HEADER.size  # bytes that `_partial` must have for its next step: a header, or a whole frame

    @property
    def is_idle(self) -> bool:
        """Whether it holds no part of a frame."""
        return not self._partial

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
            if length > self.max_bytes:
                raise WireError("the peer sent a frame of %d bytes, over the limit of %d" % (length, self.max_bytes))
            self._needed = HEADER.size + length
            end = start + self._needed
            if size < end:
                break
            body = view[start + HEADER.size : end]
            frames.append(tuple.__new__(Frame, (kind, flags, request_id, body)))  # without a function in Python
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
    numbers, deadlines = [number for number, _ in requests], [frame.deadline for _, frame in requests]
    priorities = [frame.priority for _, frame in requests]
    inputs = [[tensor.data for tensor in frame.inputs] for _, frame in requests]
    contexts = [frame.context for _, frame in requests]
    return pack_requests(numbers, deadlines, priorities, [1] * len(numbers), layout, inputs, flags, offsets, contexts)


def pack_requests(
    numbers: Sequence[int],
    deadlines: Sequence[float],
    priorities: Sequence[int],
    rows: Sequence[int],
    layout: TensorLayout,
    inputs: Sequence[Sequence[Buffer]],
    flags: int = 0,
    offsets: Sequence[int] = (),
    contexts: Sequence[Buffer] = (),
) -> List[Buffer]:
    """Do what `pack_infer` does, given the numbers of each request, their layout, and the bytes of their inputs.

    The rows matter only if the layout leaves them open. The frame has contexts if one of the requests has one.
    """
    count, packed, sizes = len(numbers), pack_layout(layout), string_sizes(layout, inputs)
    head = _INFER.pack(count, len(sizes), len(packed))
    head += _request_numbers(count).pack(*numbers, *deadlines, *priorities, *rows)
    head += packed + _pack_sizes(sizes)
    if any(contexts):
        flags |= WITH_CONTEXT
        joined = b"".join(contexts)
        head += _pack_sizes([[len(context) for context in contexts]]) + joined + bytes(-len(joined) % ALIGNMENT)
    if flags & IN_ARENA:
        return pack(INFER, numbers[0], [head + struct.pack("<%dQ" % len(offsets), *offsets)], flags)
    return pack(INFER, numbers[0], [head, *pack_tensors(layout, inputs)], flags)


def _pack_sizes(sizes: Sequence[Sequence[int]]) -> bytes:
    """Return the sizes of tensors of strings as bytes, padded to the alignment."""
    if not sizes:
        return b""
    every = [size for each in sizes for size in each]
    return struct.pack("<%dQ" % len(every), *every) + _PADDING * (len(every) % 2)


def _unpack_sizes(body: memoryview, position: int, count: int, strings: int) -> Tuple[List[Tuple[int, ...]], int]:
    """Return what `_pack_sizes` packed for `count` members and `strings` tensors, and the position after it."""
    every = struct.unpack_from("<%dQ" % (strings * count), body, position)
    sizes = [every[start : start + count] for start in range(0, len(every), count)]
    return sizes, position + 8 * (len(every) + len(every) % 2)


def unpack_requests(body: memoryview, arena: Optional[memoryview] = None, flags: int = 0) -> RequestGroup:
    """Return the requests of an INFER frame with these flags. `arena` must be given if IN_ARENA is one of them."""
    count, strings, length = _INFER.unpack_from(body)
    each = _request_numbers(count).unpack_from(body, _INFER.size)
    position = _INFER.size + 8 * len(each)
    packed = body[position : position + length].tobytes()
    layout = unpacked_layouts.entries.get(packed) or unpack_layout(packed)
    position += length
    rows, sizes = each[3 * count :], []
    if strings:
        sizes, position = _unpack_sizes(body, position, count, strings)
    contexts: Sequence[Buffer] = ()
    if flags & WITH_CONTEXT:
        (lengths,), position = _unpack_sizes(body, position, count, 1)
        ends = [position + end for end in accumulate(lengths)]
        contexts = [body[end - size : end] for end, size in zip(ends, lengths)]
        position = ends[-1] + -sum(lengths) % ALIGNMENT
    if arena is None:
        inputs = TensorGroup(layout, rows, body, position, sizes)
    else:
        offsets = struct.unpack_from("<%dQ" % len(layout[2]), body, position)
        inputs = TensorGroup(layout, rows, arena, 0, sizes, offsets)
    group = each[:count], each[count : 2 * count], each[2 * count : 3 * count], inputs, contexts
    return tuple.__new__(RequestGroup, group)  # without a function in Python


def unpack_infer(body: memoryview, arena: Optional[memoryview] = None, flags: int = 0) -> List[Tuple[int, InferFrame]]:
    """Return the (id, request) of an INFER frame, as `unpack_requests` does."""
    numbers, deadlines, priorities, inputs, contexts = unpack_requests(body, arena, flags)
    requests = []
    for member, number in enumerate(numbers):
        tensors, layout = GroupedTensors(inputs, member), inputs.layout_of(member)
        context = contexts[member] if contexts else b""
        frame = InferFrame(deadlines[member], priorities[member], layout[0], layout[1], tensors, layout, context)
        requests.append((number, frame))
    return requests


def pack_result(
    results: Sequence[Tuple[int, ResultFrame]],
    flags: int = 0,
    put: Optional[PutResults] = None,
    kind: int = RESULT,
) -> List[Buffer]:
    """Return the buffers of one RESULT frame, or one of another kind, with these (request id, result).

    They must come from the same batch, have the same layout, and be either all final or all not. `put` is offered the
    tensors.
    """
    first = results[0][1]
    layout = first.layout or layout_of("", (), first.outputs)
    each = [[tensor.data for tensor in frame.outputs] for _, frame in results]
    outputs = each[0]
    if len(each) > 1:
        outputs = [b"".join([buffers[tensor] for buffers in each]) for tensor in range(len(layout[2]))]
    numbers, queue_ns = [number for number, _ in results], [frame.queue_ns for _, frame in results]
    common = first._replace(layout=layout)
    return pack_grouped_results(
        numbers, queue_ns, [1] * len(numbers), common, outputs, string_sizes(layout, each), flags, put, kind
    )


def pack_grouped_results(
    numbers: Sequence[int],
    queue_ns: Sequence[int],
    rows: Sequence[int],
    common: ResultFrame,
    outputs: Sequence[Buffer],
    sizes: Sequence[Sequence[int]],
    flags: int,
    put: Optional[PutResults] = None,
    kind: int = RESULT,
) -> List[Buffer]:
    """Do what `pack_result` does for results whose bytes are contiguous already: one buffer of `outputs` per tensor.

    rows    of each result; they matter only if the layout leaves them open
    common  what the results share, with their layout and without their outputs
    sizes   the bytes of each result, for each tensor of strings
    """
    _, input_ns, infer_ns, output_ns, batch_rows, _, layout, final = common
    assert layout is not None
    count, packed = len(numbers), pack_layout(layout)
    head = _RESULT.pack(input_ns, infer_ns, output_ns, batch_rows, count, len(sizes), len(packed))
    head += _result_numbers(count).pack(*numbers, *queue_ns, *rows)
    body: List[Buffer] = [head + _PADDING * (count % 2) + packed + _pack_sizes(sizes)]
    flags |= FINAL if final else 0
    # Strings are always in the frame: whoever reads them follows the lengths in them, which must not change meanwhile.
    found = put(outputs) if put is not None and not sizes else None
    if found is not None:
        return pack(RESULT, numbers[0], [*body, _RANGE.pack(*found)], flags | IN_RESULT_MEMORY)
    for buffer in outputs:
        body.append(buffer)
        gap = -len(buffer) % ALIGNMENT
        if gap:
            body.append(b"\0" * gap)
    return pack(kind, numbers[0], body, flags)


def join_results(
    numbers: Sequence[int],
    queue_ns: Sequence[int],
    rows: Sequence[int],
    times: Tuple[int, int, int, int],
    packed: bytes,
    outputs: Sequence[Buffer],
    flags: int,
) -> bytes:
    """Do what `pack_grouped_results` does for final results without strings, and return the frame as one buffer.

    times    compute input, infer and output in nanoseconds, and the rows of the batch, as in ResultFrame
    packed   the layout as `pack_layout` returns it
    outputs  with what aligns them
    """
    count = len(numbers)
    parts = [_RESULT.pack(*times, count, 0, len(packed)), _result_numbers(count).pack(*numbers, *queue_ns, *rows)]
    body = b"".join([*parts, _PADDING * (count % 2), packed, *outputs])
    return HEADER.pack(len(body), VERSION, RESULT, flags | FINAL, 0, numbers[0]) + body


def unpack_results(
    body: memoryview, flags: int = FINAL, read: Optional[Callable[[int, int], memoryview]] = None
) -> ResultGroup:
    """Return the results of a RESULT frame with these flags. Raises one of MALFORMED.

    read: returns a range of the memory for results, given its offset and length; for frames that say IN_RESULT_MEMORY
    """
    gather, infer, split, batch_rows, count, strings, length = _RESULT.unpack_from(body)
    each = _result_numbers(count).unpack_from(body, _RESULT.size)
    position = _RESULT.size + 8 * (len(each) + count % 2)
    layout = unpack_layout(bytes(body[position : position + length]))
    position += length
    queue_ns, rows, sizes = each[count : 2 * count], each[2 * count :], []
    if strings:
        sizes, position = _unpack_sizes(body, position, count, strings)
    if flags & IN_RESULT_MEMORY:
        if read is None or strings:
            raise WireError("results are in memory that is not shared, or that strings are not read from")
        body, position = read(*_RANGE.unpack_from(body, position)), 0
    outputs = TensorGroup(layout, rows, body, position, sizes)
    if outputs.end > len(body):
        raise WireError("a frame does not contain all bytes of its results")
    return ResultGroup(
        each[:count],
        queue_ns,
        gather,
        infer,
        split,
        batch_rows,
        outputs,
        bool(flags & FINAL),
        bool(flags & FIRST_OF_BATCH),
    )


def unpack_failure(body: memoryview) -> Tuple[str, str, int]:
    """Return the kind and the message in an ERROR frame, which UTF-8 can encode, and how many ns the model has run.

    Raises one of MALFORMED.
    """
    failure = unpack_json(body)
    kind, message, compute_ns = failure["kind"], failure["message"], failure.get("compute_ns", 0)
    if not isinstance(kind, str) or not isinstance(message, str):
        raise WireError("an error has two texts")
    if type(compute_ns) is not int or not 0 <= compute_ns < 1 << 63:
        raise WireError("the time of an error is a number of nanoseconds")
    # A model's message may contain a lone surrogate, with which no answer can be written.
    return kind, message.encode("utf-8", "replace").decode("utf-8"), compute_ns


def unpack_result(body: memoryview, flags: int = FINAL) -> List[Tuple[int, ResultFrame]]:
    """Return the (request id, result) of a RESULT frame with these flags."""
    group = unpack_results(body, flags)
    results = []
    for index, (number, queue_ns) in enumerate(zip(group.numbers, group.queue_ns)):
        outputs, layout = list(GroupedTensors(group.outputs, index)), group.outputs.layout_of(index)
        results.append((number, ResultFrame(queue_ns, *group[2:6], outputs, layout, group.final)))
    return results
