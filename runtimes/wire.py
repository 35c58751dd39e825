"""The frames exchanged by fronts, workers and the supervisor.

A frame is a fixed header (body length, version, kind, flags, request id) followed by a body. Control frames and
errors carry JSON. Requests and results carry a few numbers, then their layout (names, datatypes, shapes), the sizes of
tensors that consist of strings, and the bytes of the tensors. Each tensor starts on a 16-byte boundary. With the flag
IN_ARENA, offsets into the front's arena replace the bytes, and with IN_RESULT_MEMORY a range of the memory that worker
and front share for results.

One frame can carry any number of requests (request_frames.py), or results (result_frames.py), with the same layout
(layouts.py). They may differ in their rows and in the lengths of their strings. Nothing is pickled, so neither side has
to trust the other's Python.
"""

import json
import struct
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from runtimes.contract import Signature, TensorSpec
from runtimes.layouts import ALIGNMENT
from runtimes.tensor_bytes import Buffer

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

# Half of the alignment: numbers of 8 bytes are padded with it if there is an odd number of them.
PADDING = b"\0" * (ALIGNMENT // 2)


class Frame(NamedTuple):
    """A frame as received. `id` is that of its request, or of the first one if it has several; 0 for control frames."""

    kind: int
    flags: int
    id: int
    body: memoryview


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


def pack_sizes(sizes: Sequence[Sequence[int]]) -> bytes:
    """Return the sizes of tensors of strings as bytes, padded to the alignment."""
    if not sizes:
        return b""
    every = [size for each in sizes for size in each]
    return struct.pack("<%dQ" % len(every), *every) + PADDING * (len(every) % 2)


def unpack_sizes(body: memoryview, position: int, count: int, strings: int) -> Tuple[List[Tuple[int, ...]], int]:
    """Return what `pack_sizes` packed for `count` members and `strings` tensors, and the position after it."""
    every = struct.unpack_from("<%dQ" % (strings * count), body, position)
    sizes = [every[start : start + count] for start in range(0, len(every), count)]
    return sizes, position + 8 * (len(every) + len(every) % 2)
