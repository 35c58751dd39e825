"""The frames that cross the wall between a front, a worker and the supervisor.

A frame is a fixed header (body length, version, kind, flags, request id), then the body.
Control frames and errors carry JSON; requests and answers carry packed metadata, then the
tensors' bytes, each starting on a 16-byte boundary. Nothing is pickled: neither side has to
trust the other's Python.
"""

import json
import struct
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from runtimes.contract import DATATYPES, Signature, TensorSpec, datatype_of

VERSION = 1
HEADER = struct.Struct("<QBBHIQ")  # body length, version, kind, flags, reserved, request id

# Supervisor and worker, once or seldom; the body is JSON.
LOAD, READY, FAILED, LEARNED, STOP = 1, 2, 3, 4, 5
# Front and worker, per request.
INFER, CANCEL, RESULT, ERROR = 16, 17, 18, 19

# An INFER frame's flag: run this request in a batch of its own (it may have killed a worker).
ALONE = 1
# A RESULT frame's flag: the first answer of its batch, so that fronts can count executions.
FIRST_OF_BATCH = 1

Buffer = Union[bytes, bytearray, memoryview]

_INFER = struct.Struct("<diHHH")  # deadline, priority, signature's length, inputs, outputs
_RESULT = struct.Struct("<QQQQIH")  # queue, compute input, infer, output (ns); rows of the batch; outputs
_TENSOR = struct.Struct("<HBBQ")  # name's length, datatype, rank, bytes
_CODES = {name: code for code, name in enumerate(DATATYPES)}
_DATATYPES = list(DATATYPES)
_ALIGNMENT = 16


class Tensor(NamedTuple):
    """A tensor as bytes: little-endian, row-major; BYTES elements as a u32 length, then the bytes."""

    name: str
    datatype: str
    shape: Tuple[int, ...]
    data: Buffer


class Frame(NamedTuple):
    kind: int
    flags: int
    id: int
    body: memoryview


class InferFrame(NamedTuple):
    """deadline: time.monotonic() seconds, one clock for all processes of a machine. priority: lower goes first."""

    deadline: float
    priority: int
    signature: str
    outputs: List[str]
    inputs: List[Tensor]


class ResultFrame(NamedTuple):
    """Durations in nanoseconds; batch_rows: how many rows the batch had in which this request ran."""

    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    batch_rows: int
    outputs: List[Tensor]


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
        self._buffer = bytearray()
        self._wanted = HEADER.size

    def feed(self, data: Buffer) -> List[Frame]:
        """The frames that `data` completes; their bodies stay valid. Raises WireError."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._wanted:
            return []
        frames = []
        start, view = 0, memoryview(buffer)
        while True:
            if len(buffer) - start < HEADER.size:
                self._wanted = HEADER.size
                break
            length, version, kind, flags, _, request_id = HEADER.unpack_from(buffer, start)
            if version != VERSION:
                raise WireError("the other side speaks version %d of the wire, not %d" % (version, VERSION))
            end = start + HEADER.size + length
            if len(buffer) < end:
                self._wanted = HEADER.size + length
                break
            frames.append(Frame(kind, flags, request_id, view[start + HEADER.size : end]))
            start = end
        if start:
            # The frames keep views of the old buffer, so the rest moves to a new one.
            self._buffer = bytearray(view[start:])
        else:
            view.release()
        return frames


def _pack_tensors(meta: List[bytes], tensors: Sequence[Tensor], header: int) -> List[Buffer]:
    for tensor in tensors:
        name = tensor.name.encode()
        meta.append(_TENSOR.pack(len(name), _CODES[tensor.datatype], len(tensor.shape), len(tensor.data)))
        meta.append(name)
        meta.append(struct.pack("<%dq" % len(tensor.shape), *tensor.shape))
    packed = b"".join(meta)
    parts: List[Buffer] = [packed]
    position = header + len(packed)
    for tensor in tensors:
        padding = -position % _ALIGNMENT
        parts.append(b"\0" * padding)
        parts.append(tensor.data)
        position += padding + len(tensor.data)
    return parts


def _unpack_tensors(body: memoryview, position: int, count: int) -> List[Tensor]:
    described = []
    for _ in range(count):
        name_length, code, rank, size = _TENSOR.unpack_from(body, position)
        position += _TENSOR.size
        name = bytes(body[position : position + name_length]).decode()
        position += name_length
        shape = struct.unpack_from("<%dq" % rank, body, position)
        position += 8 * rank
        described.append((name, _DATATYPES[code], shape, size))
    tensors = []
    for name, datatype, shape, size in described:
        position += -(HEADER.size + position) % _ALIGNMENT
        tensors.append(Tensor(name, datatype, shape, body[position : position + size]))
        position += size
    return tensors


def pack_infer(request_id: int, frame: InferFrame, flags: int = 0) -> List[Buffer]:
    signature = frame.signature.encode()
    meta = [
        _INFER.pack(frame.deadline, frame.priority, len(signature), len(frame.inputs), len(frame.outputs)),
        signature,
    ]
    for name in frame.outputs:
        encoded = name.encode()
        meta.append(struct.pack("<H", len(encoded)))
        meta.append(encoded)
    return pack(INFER, request_id, _pack_tensors(meta, frame.inputs, HEADER.size), flags)


def unpack_infer(body: memoryview) -> InferFrame:
    deadline, priority, signature_length, inputs, outputs = _INFER.unpack_from(body)
    position = _INFER.size
    signature = bytes(body[position : position + signature_length]).decode()
    position += signature_length
    names = []
    for _ in range(outputs):
        (length,) = struct.unpack_from("<H", body, position)
        names.append(bytes(body[position + 2 : position + 2 + length]).decode())
        position += 2 + length
    return InferFrame(deadline, priority, signature, names, _unpack_tensors(body, position, inputs))


def pack_result(request_id: int, frame: ResultFrame, flags: int = 0) -> List[Buffer]:
    meta = [_RESULT.pack(*(frame[:5] + (len(frame.outputs),)))]
    return pack(RESULT, request_id, _pack_tensors(meta, frame.outputs, HEADER.size), flags)


def unpack_result(body: memoryview) -> ResultFrame:
    fields = _RESULT.unpack_from(body)
    return ResultFrame(*(fields[:5] + (_unpack_tensors(body, _RESULT.size, fields[5]),)))


def to_array(tensor: Tensor) -> np.ndarray:
    """The tensor as an array; a view of its bytes where that is possible.

    Raises ValueError, as a sentence, when the bytes do not fit datatype and shape.
    """
    count = 1
    for size in tensor.shape:
        count *= size
    if tensor.datatype == "BYTES":
        flat = np.empty(count, dtype=object)
        flat[:] = unpack_bytes(tensor.data, count)
        return flat.reshape(tensor.shape)
    dtype = DATATYPES[tensor.datatype]
    if len(tensor.data) != count * dtype.itemsize:
        raise ValueError(
            "its data has %d bytes where %s%s needs %d"
            % (len(tensor.data), tensor.datatype, list(tensor.shape), count * dtype.itemsize)
        )
    array = np.frombuffer(tensor.data, dtype=dtype).reshape(tensor.shape)
    return array if array.flags.aligned else array.copy()


def from_array(name: str, array: np.ndarray) -> Tensor:
    """The array as a tensor. Raises KeyError for a dtype that the protocol lacks."""
    datatype = datatype_of(array.dtype)
    if datatype == "BYTES":
        return Tensor(name, datatype, array.shape, pack_bytes(array.ravel().tolist()))
    contiguous = np.ascontiguousarray(array, dtype=DATATYPES[datatype])
    data = memoryview(contiguous.reshape(-1).view(np.uint8)) if contiguous.size else b""
    return Tensor(name, datatype, array.shape, data)


def pack_bytes(elements: Sequence[Union[bytes, str]]) -> bytes:
    parts = []
    for element in elements:
        raw = element.encode() if isinstance(element, str) else element
        if not isinstance(raw, bytes):
            raise TypeError("an element of a BYTES tensor is of type %s" % type(element).__name__)
        parts.append(struct.pack("<I", len(raw)))
        parts.append(raw)
    return b"".join(parts)


def unpack_bytes(data: Buffer, count: int) -> List[bytes]:
    """Raises ValueError, as a sentence, when the data does not hold exactly `count` elements."""
    view, position, elements = memoryview(data), 0, []
    while position < len(view):
        if position + 4 > len(view):
            raise ValueError("its data ends inside the length of string %d" % len(elements))
        (length,) = struct.unpack_from("<I", view, position)
        position += 4
        if position + length > len(view):
            raise ValueError("its data ends inside string %d" % len(elements))
        elements.append(bytes(view[position : position + length]))
        position += length
    if len(elements) != count:
        raise ValueError("its data holds %d strings where its shape needs %d" % (len(elements), count))
    return elements
