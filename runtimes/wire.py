"""The frames exchanged by fronts, workers and the supervisor.

A frame is a fixed header (body length, version, kind, flags, request id) followed by a body. Control frames and
errors carry JSON. Requests and results carry a few numbers, then their layout (names, datatypes, shapes: everything
but the tensors' bytes), then the bytes of the tensors. Each tensor starts on a 16-byte boundary. With the flag
IN_ARENA, offsets into the front's arena replace the bytes.

The requests of one client usually differ only in their bytes. Both sides therefore cache layouts, and one frame can
carry any number of requests, or results, with the same layout. Their bytes are grouped by tensor: first those of all
requests for the first tensor, then those for the second, and so on. Nothing is pickled, so neither side has to trust
the other's Python.
"""

import json
import struct
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, cast

from runtimes.bounded_cache import BoundedCache
from runtimes.contract import DATATYPES, Signature, TensorSpec
from runtimes.tensors import Buffer, Tensor

VERSION = 4
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
# FINAL: the requests in it get no further result (today every result is final).
FIRST_OF_BATCH, FINAL = 1, 2


# Number of requests, length of the layout; then id, deadline and priority of each request.
_INFER, _INFER_ENTRY = struct.Struct("<II8x"), struct.Struct("<Qdi4x")
# Compute input, infer and output (ns), rows of the batch, number of results, length of the layout; then request id and
# time in the queue (ns) of each result.
_RESULT, _RESULT_ENTRY = struct.Struct("<QQQIII4x"), struct.Struct("<QQ")
_LAYOUT = struct.Struct("<HHH")  # length of the signature, number of requested outputs, number of tensors
_TENSOR = struct.Struct("<HBBQ")  # length of the name, datatype, rank, bytes
_CODES = {name: code for code, name in enumerate(DATATYPES)}
_DATATYPES = list(DATATYPES)
_ALIGNMENT = 16
_PADDING = b"\0" * (_ALIGNMENT // 2)
# Layouts cached in each direction. A typical client sends a handful of layouts; if more are in use, each miss costs
# one packing or parsing. With the limit below, a cache holds at most 4 MiB of packed bytes.
_MAX_LAYOUTS = 1024
# Longer packed layouts are not cached. Clients choose which outputs they request, names included, and could otherwise
# fill the cache with long ones.
_MAX_LAYOUT_BYTES = 4096


class Frame(NamedTuple):
    """A frame as received. `id` is that of its request, or of the first one if it has several; 0 for control frames."""

    kind: int
    flags: int
    id: int
    body: memoryview


# Everything in an INFER or RESULT frame except its numbers and the bytes of its tensors: the signature, the requested
# outputs, and for each tensor its name, datatype, shape and length in bytes.
TensorLayout = Tuple[str, Tuple[str, ...], Tuple[Tuple[str, str, Tuple[int, ...], int], ...]]


class _CachedLayout(tuple):
    """A TensorLayout that compares and hashes by identity, since caches are asked for one several times per request.

    There is one object for equal layouts, unless it was evicted meanwhile; then others only miss a cache.
    """

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __ne__ = object.__ne__


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


class WireError(Exception):
    """The peer speaks another version of this protocol."""


def pack(kind: int, request_id: int, body: Sequence[Buffer] = (), flags: int = 0) -> List[Buffer]:
    """Return the buffers to write, in order."""
    length = sum([len(part) for part in body])
    return [HEADER.pack(length, VERSION, kind, flags, 0, request_id), *body]


def pack_json(kind: int, body: Dict[str, Any], request_id: int = 0) -> bytes:
    """Return a frame with a JSON body, padded so that tensors of frames read together with it are aligned."""
    text = json.dumps(body).encode()
    return b"".join(pack(kind, request_id, [text, b" " * (-len(text) % (_ALIGNMENT // 2))]))


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
        while True:
            if size - start < HEADER.size:
                self._needed = HEADER.size
                break
            length, version, kind, flags, _, request_id = HEADER.unpack_from(source, start)
            if version != VERSION:
                raise WireError("the peer speaks version %d of the wire protocol, not %d" % (version, VERSION))
            end = start + HEADER.size + length
            if size < end:
                self._needed = HEADER.size + length
                break
            frames.append(Frame(kind, flags, request_id, view[start + HEADER.size : end]))
            start = end
        if start or source is data:
            # The frames hold views of `source`, so the remaining bytes move to a new buffer.
            self._partial = bytearray(view[start:])
        else:
            view.release()  # a bytearray with a live view cannot grow
        return frames


_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[TensorLayout, TensorLayout]
_packed_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[TensorLayout, bytes]
_unpacked_layouts = BoundedCache(_MAX_LAYOUTS)  # type: BoundedCache[bytes, TensorLayout]


def layout_of(signature: str, outputs: Sequence[str], tensors: Sequence[Tensor]) -> TensorLayout:
    """Return a layout. It is not cached before it is packed, so requests that are invalid do not fill the cache."""
    described = tuple([(name, datatype, tuple(shape), len(data)) for name, datatype, shape, data in tensors])
    layout = signature, tuple(outputs), described
    return _layouts.entries.get(layout, layout)


def _cached(layout: TensorLayout) -> TensorLayout:
    """Return the one object for layouts equal to this one."""
    cached = _layouts.entries.get(layout)
    if cached is None:
        cached = cast(TensorLayout, _CachedLayout(layout))
        _layouts.put(layout, cached)
    return cached


def _pack_layout(layout: TensorLayout) -> bytes:
    """Return the layout as bytes, padded to the alignment of the tensors that follow."""
    packed = _packed_layouts.entries.get(layout)
    if packed is not None:
        return packed
    signature, outputs, tensors = layout[0].encode(), [name.encode() for name in layout[1]], layout[2]
    parts = [_LAYOUT.pack(len(signature), len(outputs), len(tensors)), signature]
    for output in outputs:
        parts += [struct.pack("<H", len(output)), output]
    for name, datatype, shape, size in tensors:
        raw = name.encode()
        parts += [_TENSOR.pack(len(raw), _CODES[datatype], len(shape), size), raw]
        parts.append(struct.pack("<%dq" % len(shape), *shape))
    packed = b"".join(parts)
    packed += b"\0" * (-len(packed) % _ALIGNMENT)
    if len(packed) <= _MAX_LAYOUT_BYTES:
        _packed_layouts.put(_cached(layout) if type(layout) is tuple else layout, packed)
    return packed


def _unpack_layout(packed: bytes) -> TensorLayout:
    layout = _unpacked_layouts.entries.get(packed)
    if layout is not None:
        return layout
    signature_length, output_count, count = _LAYOUT.unpack_from(packed)
    position = _LAYOUT.size + signature_length
    signature = packed[_LAYOUT.size : position].decode()
    outputs = []
    for _ in range(output_count):
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
    layout = signature, tuple(outputs), tuple(tensors)
    if len(packed) <= _MAX_LAYOUT_BYTES:
        layout = _cached(layout)
        _unpacked_layouts.put(packed, layout)
    return layout


def _pack_tensors(layout: TensorLayout, each: Sequence[Sequence[Tensor]]) -> List[Buffer]:
    """Return the bytes of all requests or results, grouped by tensor. Each group is padded to the alignment."""
    parts: List[Buffer] = []
    for index, (_, _, _, size) in enumerate(layout[2]):
        parts += [tensors[index].data for tensors in each]
        gap = -size * len(each) % _ALIGNMENT
        if gap:
            parts.append(b"\0" * gap)
    return parts


class TensorGroup:
    """The tensors of the requests in one frame, as they are in its body: grouped by tensor."""

    __slots__ = ("_body", "_starts", "layout")

    def __init__(self, layout: TensorLayout, count: int, body: memoryview, position: int) -> None:
        self.layout = layout
        self._body = body
        self._starts = []  # of the first request's bytes for each tensor
        for _, _, _, size in layout[2]:
            self._starts.append(position)
            position += size * count + -size * count % _ALIGNMENT

    def data(self, tensor: int, start: int, stop: int) -> memoryview:
        """Return the bytes of the requests from `start` to `stop` for one tensor. They are contiguous."""
        size, first = self.layout[2][tensor][3], self._starts[tensor]
        return self._body[first + start * size : first + stop * size]


class GroupedTensors(Sequence[Tensor]):
    """The tensors of one request in a group, as views of its frame that are made when they are needed.

    A batch of small requests never needs them: its inputs are the bytes of whole groups (worker/rows.py).
    """

    __slots__ = ("group", "index")

    def __init__(self, group: TensorGroup, index: int) -> None:
        self.group, self.index = group, index

    def __len__(self) -> int:
        return len(self.group.layout[2])

    def __getitem__(self, tensor: Any) -> Any:
        if isinstance(tensor, slice):
            return [self[each] for each in range(*tensor.indices(len(self)))]
        name, datatype, shape, _ = self.group.layout[2][tensor]
        if tensor < 0:
            tensor += len(self)
        return Tensor(name, datatype, shape, self.group.data(tensor, self.index, self.index + 1))


def _unpack_tensors(layout: TensorLayout, count: int, body: memoryview, position: int) -> List[List[Tensor]]:
    """Return the tensors of each of the `count` results, as views of `body`."""
    each: List[List[Tensor]] = [[] for _ in range(count)]
    for name, datatype, shape, size in layout[2]:
        for tensors in each:
            tensors.append(Tensor(name, datatype, shape, body[position : position + size]))
            position += size
        position += -size * count % _ALIGNMENT
    return each


def pack_infer(requests: Sequence[Tuple[int, InferFrame]], flags: int = 0, offsets: Sequence[int] = ()) -> List[Buffer]:
    """Return the buffers of one INFER frame with these (id, request), which must have the same layout.

    With the flag IN_ARENA there must be exactly one request; `offsets` are those of its inputs in the arena.
    """
    first = requests[0][1]
    layout = first.layout or layout_of(first.signature, first.outputs, first.inputs)
    packed = _pack_layout(layout)
    parts = [_INFER.pack(len(requests), len(packed))]
    parts += [_INFER_ENTRY.pack(number, frame.deadline, frame.priority) for number, frame in requests]
    if not len(requests) % 2:
        parts.append(_PADDING)  # otherwise the layout, and therefore the tensors, would not be aligned
    parts.append(packed)
    if flags & IN_ARENA:
        parts.append(struct.pack("<%dQ" % len(offsets), *offsets))
        return pack(INFER, requests[0][0], [b"".join(parts)], flags)
    body: List[Buffer] = [b"".join(parts)]
    return pack(INFER, requests[0][0], body + _pack_tensors(layout, [frame.inputs for _, frame in requests]), flags)


def unpack_infer(body: memoryview, arena: Optional[memoryview] = None) -> List[Tuple[int, InferFrame]]:
    """Return the (id, request) of an INFER frame. `arena` must be given if, and only if, it has the flag IN_ARENA."""
    count, length = _INFER.unpack_from(body)
    position = _INFER.size + _INFER_ENTRY.size * count + (0 if count % 2 else len(_PADDING))
    layout = _unpack_layout(bytes(body[position : position + length]))
    each: Iterable[Sequence[Tensor]]
    if arena is None:
        group = TensorGroup(layout, count, body, position + length)
        each = [GroupedTensors(group, index) for index in range(count)]
    else:
        offsets = struct.unpack_from("<%dQ" % len(layout[2]), body, position + length)
        each = [
            [
                Tensor(name, datatype, shape, arena[offset : offset + size])
                for (name, datatype, shape, size), offset in zip(layout[2], offsets)
            ]
        ]
    signature, outputs = layout[0], layout[1]
    numbers = _INFER_ENTRY.iter_unpack(body[_INFER.size : _INFER.size + _INFER_ENTRY.size * count])
    return [
        (number, InferFrame(deadline, priority, signature, outputs, inputs, layout))
        for (number, deadline, priority), inputs in zip(numbers, each)
    ]


def pack_result(results: Sequence[Tuple[int, ResultFrame]], flags: int = 0) -> List[Buffer]:
    """Return the buffers of one RESULT frame with these (request id, result).

    They must come from the same batch, have the same layout, and be either all final or all not.
    """
    first = results[0][1]
    if first.final:
        flags |= FINAL
    layout = first.layout or layout_of("", (), first.outputs)
    head = _pack_result_head([number for number, _ in results], [frame[0] for _, frame in results], first, layout)
    return pack(RESULT, results[0][0], head + _pack_tensors(layout, [frame.outputs for _, frame in results]), flags)


def pack_grouped_results(
    numbers: Sequence[int], queue_ns: Sequence[int], common: ResultFrame, outputs: Sequence[Buffer], flags: int
) -> List[Buffer]:
    """Do what `pack_result` does for results whose bytes are contiguous already: one buffer of `outputs` per tensor.

    `common` has what the results share, which includes their layout.
    """
    layout = common.layout or layout_of("", (), common.outputs)
    body = _pack_result_head(numbers, queue_ns, common, layout)
    for buffer in outputs:
        body.append(buffer)
        gap = -len(buffer) % _ALIGNMENT
        if gap:
            body.append(b"\0" * gap)
    return pack(RESULT, numbers[0], body, flags | FINAL if common.final else flags)


def _pack_result_head(
    numbers: Sequence[int], queue_ns: Sequence[int], common: ResultFrame, layout: TensorLayout
) -> List[Buffer]:
    packed, count = _pack_layout(layout), len(numbers)
    each = [0] * (2 * count)
    each[::2], each[1::2] = numbers, queue_ns
    parts = [_RESULT.pack(common[1], common[2], common[3], common[4], count, len(packed))]
    return [b"".join(parts + [struct.pack("<%dQ" % (2 * count), *each), packed])]


def unpack_result(body: memoryview, final: bool = True) -> List[Tuple[int, ResultFrame]]:
    """Return the (request id, result) of a RESULT frame. `final`: whether the frame has the flag FINAL."""
    gather, infer, split, rows, count, length = _RESULT.unpack_from(body)
    position = _RESULT.size + _RESULT_ENTRY.size * count
    layout = _unpack_layout(bytes(body[position : position + length]))
    numbers = _RESULT_ENTRY.iter_unpack(body[_RESULT.size : position])
    return [
        (number, ResultFrame(queue, gather, infer, split, rows, outputs, layout, final))
        for (number, queue), outputs in zip(numbers, _unpack_tensors(layout, count, body, position + length))
    ]
