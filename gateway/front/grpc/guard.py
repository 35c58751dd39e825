"""Follows what one gRPC client sends, so that the native server behind it never sees a flood.

The server reads a message before it checks its length, decompresses it without a limit, and takes messages of any
number of calls at a time (docs/decisions/0009-grpc-native.md). A guard reads the nine bytes before each HTTP/2 frame
and the five before each gRPC message, and nothing else of most calls. It only changes what a client sends if it must:

- In place of a message that is refused, the server gets a short one that says why (`Refusals`), and the call ends as if
  the client had sent nothing more. What the client has already sent is dropped.
- Of a message that has been passed on in part, the rest is cut off.
- A client that violates the protocol or floods the server with frames loses its connection (`Violation`).
"""

import time
from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from gateway.engine.protocol import BodyReservation
from gateway.errors import ModelportError, TooLarge
from gateway.front.base.limits import Limits
from gateway.front.grpc.messages import MAX_INFLATION, PREFIX, PREFIX_BYTES, Inflated, Message, Refusals

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# The frame's length in 1 + 2 bytes, its type, its flags, its stream.
_HEAD = Struct(">BHBBI")
_HEAD_BYTES = _HEAD.size
_DATA, _HEADERS, _RST_STREAM, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 8, 9
_END_STREAM, _END_HEADERS, _PADDED = 1, 4, 8
# HTTP/2's default, which the native server uses.
_MAX_FRAME = 1 << 14
_MAX_STREAM = (1 << 31) - 1
# A block of headers, compressed, and the number of its frames. The server allows 16 KiB of decompressed headers.
_MAX_BLOCK_BYTES, _MAX_BLOCK_FRAMES = 1 << 16, 32
# Frames that are neither headers nor content: how many more of them than of those a connection may send at once, and
# per second. An honest client sends some for each call, and a few when it is idle.
_MAX_OVERHEAD = 1000
# Calls that were refused while the client goes on sending. Honest clients end a call that has been answered.
_MAX_REFUSED = 1000
# Messages of which not even the length has arrived. The server sees nothing of them, so it does not limit their number.
_MAX_PREFIXES = 1000
# As much may be dropped of what a client sends: the server does not make room for it in the connection's window.
_MAX_DROPPED = 1 << 29


class Violation(Exception):
    """The connection must be closed. The message says why, for the log."""


class Policy(NamedTuple):
    """What all guards of a front have in common.

    reserve  returns a reservation for a message that is being received
    """

    limits: Limits
    refusals: Refusals
    reserve: Callable[[], BodyReservation]


class Guard:
    """Reads the bytes of one connection.

    field  a header field that is added to each call: HPACK bytes that leave the state of both sides as it is; or none
    """

    def __init__(self, policy: Policy, field: bytes = b"") -> None:
        self._limits, self._refusals, self._reserve = policy
        self.field = field
        self._preface = len(PREFACE)  # bytes to come
        self._rest = b""  # of a frame that is not complete
        self._overhead, self._overhead_since = 0, time.monotonic()
        self._block_frames = self._block_bytes = 0
        self._messages: dict[int, Message] = {}  # by stream
        self._prefixes: dict[int, bytes] = {}  # of messages whose prefix is not complete
        self._refused: set[int] = set()  # streams
        self._dropped = 0

    @property
    def has_messages(self) -> bool:
        """Whether messages are incomplete, so that `cut_slow` should be called now and then."""
        return bool(self._messages)

    @property
    def is_silent(self) -> bool:
        """Whether the client has not even sent what HTTP/2 begins with."""
        return self._preface > 0

    @property
    def in_headers(self) -> bool:
        """Whether the frames of one block of headers are incomplete: nothing may come between them."""
        return self._block_frames > 0

    def close(self) -> None:
        for message in self._messages.values():
            message.reservation.close()
        self._messages.clear()

    def feed(self, data: bytes) -> bytes:
        """Take what the client has sent, and return what the server is to get. Raises Violation."""
        if self._rest:
            data = self._rest + data
        start = at = 0  # what has not been passed on yet, and the next frame
        if self._preface:
            at = min(self._preface, len(data))
            if not PREFACE[len(PREFACE) - self._preface :].startswith(data[:at]):
                raise Violation("it does not speak HTTP/2")
            self._preface -= at
        size, messages, limit = len(data), self._messages, self._limits.binary_bytes
        changed: list[bytes] = []
        while at + _HEAD_BYTES <= size:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            length = high << 16 | low
            if length > _MAX_FRAME or stream > _MAX_STREAM:
                raise Violation(f"it sent a frame of {length} bytes for stream {stream}")
            end = at + _HEAD_BYTES + length
            if end > size:
                break
            replaced = None
            if kind == _DATA:
                # Usually a frame is a message, and the message is not compressed.
                if (
                    PREFIX_BYTES <= length <= limit
                    and stream not in messages
                    and PREFIX.unpack_from(data, at + _HEAD_BYTES) == (0, length - PREFIX_BYTES)
                    and stream not in self._refused
                    and not flags & _PADDED
                    and stream not in self._prefixes
                ):
                    self._overhead -= 1
                else:
                    replaced = self._data(stream, flags, data[at + _HEAD_BYTES : end])
            elif kind in (_HEADERS, _CONTINUATION):
                replaced = self._headers(kind, flags, stream, data, at, end)
            elif kind != _WINDOW_UPDATE:
                if kind == _RST_STREAM:
                    self._forget(stream)
                    # A call that is reset at once costs the server as much as one that was meant.
                    self._count_overhead()
                self._count_overhead()
            if replaced is not None:
                changed += (data[start:at], replaced)
                start = end
            at = end
        self._rest = data[at:]
        if changed:
            changed.append(data[start:at])
            return b"".join(changed)
        return data if at == size else data[:at]

    def _headers(self, kind: int, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        if kind == _HEADERS:
            self._overhead -= 1
        self._block_frames += 1
        self._block_bytes += end - at
        if self._block_frames > _MAX_BLOCK_FRAMES or self._block_bytes > _MAX_BLOCK_BYTES:
            raise Violation("the headers of a call are too long")
        if kind == _HEADERS and flags & _END_STREAM:
            self._end(stream)
        if not flags & _END_HEADERS:
            return None
        self._block_frames = self._block_bytes = 0
        if not self.field:
            return None
        # The field follows in a frame of its own, so that padding and priorities need not be read.
        parts = (data[at : at + 4], bytes([flags & ~_END_HEADERS]), data[at + 5 : end])
        return b"".join((*parts, _frame(_CONTINUATION, _END_HEADERS, stream, self.field)))

    def _data(self, stream: int, flags: int, payload: bytes) -> bytes | None:
        """Return what replaces this frame; None if nothing does."""
        if flags & _PADDED:
            raise Violation("it sent a padded frame, which no gRPC client does")
        ends = bool(flags & _END_STREAM)
        if stream in self._refused:
            self._dropped += len(payload)
            if self._dropped > _MAX_DROPPED:
                raise Violation("it has sent too much that was refused")
            if ends:
                self._refused.discard(stream)
            return b""
        if payload or ends:
            self._overhead -= 1
        else:
            self._count_overhead()
        content = self._prefixes.pop(stream, b"") + payload
        passed: list[bytes] = []
        at = 0
        try:
            while at < len(content):
                message = self._messages.get(stream)
                if message is None:
                    if len(content) - at < PREFIX_BYTES and not ends:
                        self._prefixes[stream] = content[at:]
                        if len(self._prefixes) > _MAX_PREFIXES:
                            raise Violation(f"it has begun {_MAX_PREFIXES} messages without their length")
                        break
                    message = self._begin(stream, content, at)
                part = content[at : at + message.left]
                passed.append(message.take(part))
                at += len(part)
                if not message.left:
                    self._end(stream)
        except ModelportError as error:
            return self._refuse(stream, b"".join(passed), ends, error)
        if ends and stream in self._messages:
            passed.append(self._messages[stream].release())
            self._end(stream)
        new = b"".join(passed)
        return None if new == payload else _frames(stream, new, ends)

    def _begin(self, stream: int, content: bytes, at: int) -> Message:
        """Note a message whose prefix is at `at`. Raises TooLarge, Overloaded."""
        prefix = content[at : at + PREFIX_BYTES]
        compressed, length = PREFIX.unpack(prefix.ljust(PREFIX_BYTES, b"\0"))
        limit = self._limits.binary_bytes
        if length > limit:
            raise TooLarge(f"the message has {length} bytes, over the limit of {limit}")
        inflated = Inflated(limit) if compressed and length * MAX_INFLATION > limit else None
        reservation = self._reserve()
        if len(content) - at < length:
            try:
                reservation.reserve(length)
            except ModelportError:
                reservation.close()
                raise
        message = self._messages[stream] = Message(PREFIX_BYTES + length, reservation, inflated)
        return message

    def _refuse(self, stream: int, passed: bytes, ends: bool, error: ModelportError) -> bytes:
        """Return what replaces the current frame. `passed` is the part of it before the message that is refused."""
        message = self._messages.get(stream)
        if message is None or message.held is not None:
            answer = self._refusals.message(error)
            passed += PREFIX.pack(0, len(answer)) + answer
        self._end(stream)
        if not ends:
            self._refused.add(stream)
            if len(self._refused) > _MAX_REFUSED:
                raise Violation(f"it goes on sending {_MAX_REFUSED} messages that were refused")
        return _frames(stream, passed, ends=True)

    def cut_slow(self) -> bytes:
        """Return what ends those calls whose message arrives too slowly."""
        now, cut = time.monotonic(), []
        if self.in_headers:
            return b""
        for stream, message in list(self._messages.items()):
            if self._limits.is_too_slow(message.received, now - message.started):
                rate = self._limits.min_body_rate
                error = TooLarge(f"the message arrived too slowly, below {rate} bytes a second; send it again")
                cut.append(self._refuse(stream, b"", False, error))
        return b"".join(cut)

    def _end(self, stream: int) -> None:
        """The current message of this stream has ended."""
        message = self._messages.pop(stream, None)
        if message is not None:
            message.reservation.close()

    def _forget(self, stream: int) -> None:
        """The client has ended this stream."""
        self._end(stream)
        self._refused.discard(stream)
        self._prefixes.pop(stream, None)

    def _count_overhead(self) -> None:
        self._overhead += 1
        if self._overhead > _MAX_OVERHEAD:
            now = time.monotonic()
            self._overhead = max(0, self._overhead - int(_MAX_OVERHEAD * (now - self._overhead_since)))
            self._overhead_since = now
            if self._overhead > _MAX_OVERHEAD:
                raise Violation("it floods the server with frames that belong to no message")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = len(payload)
    return _HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def _frames(stream: int, payload: bytes, ends: bool) -> bytes:
    """Return a stream's content in frames of the allowed length."""
    if not payload and not ends:
        return b""
    parts = [payload[at : at + _MAX_FRAME] for at in range(0, len(payload), _MAX_FRAME)] or [b""]
    return b"".join(
        _frame(_DATA, _END_STREAM if ends and number == len(parts) else 0, stream, part)
        for number, part in enumerate(parts, 1)
    )
