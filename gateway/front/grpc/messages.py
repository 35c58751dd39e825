"""gRPC messages that are being received, and those that are refused."""

import secrets
import time
import zlib
from struct import Struct

from gateway.engine.protocol import BodyReservation
from gateway.errors import InvalidRequest, ModelportError, Overloaded, TooLarge

# Before each message: whether it is compressed, and its length.
PREFIX = Struct(">BI")
PREFIX_BYTES = PREFIX.size
# Deflate shrinks nothing further than to a 1032nd.
MAX_INFLATION = 1032
# As much of a compressed message is held back until it is known what it decompresses to. The server's window for one
# call is four times as large, so a client never waits for more room.
_MAX_HELD = 1 << 20
_INFLATED_AT_A_TIME = 1 << 16
_ZLIB_OR_GZIP = 47


class Refusals:
    """Messages that tell the handlers why the client's message was refused. Clients cannot forge them."""

    _KINDS: tuple[type[ModelportError], ...] = (TooLarge, Overloaded, InvalidRequest)

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(16)

    def message(self, error: ModelportError) -> bytes:
        return self._secret + bytes([self._KINDS.index(type(error))]) + str(error).encode()

    def check(self, message: bytes) -> None:
        """Raise the error if the message is one of these."""
        if message.startswith(self._secret):
            number, sentence = message[len(self._secret)], message[len(self._secret) + 1 :]
            raise self._KINDS[number](sentence.decode())


class Message:
    """A message that is not complete yet.

    left      bytes to come, including its prefix
    inflated  counts what a compressed message decompresses to, if that may exceed the limit
    held      what is held back of a compressed message until that is known; None if nothing is any more
    """

    __slots__ = ("held", "inflated", "left", "received", "reservation", "started")

    def __init__(self, left: int, reservation: BodyReservation, inflated: "Inflated | None") -> None:
        self.left, self.reservation, self.inflated = left, reservation, inflated
        self.held = None if inflated is None else bytearray()
        self.received = 0
        self.started = time.monotonic()

    def take(self, part: bytes) -> bytes:
        """Count the next part, and return what to pass on now. Raises TooLarge, InvalidRequest."""
        if self.inflated is not None:
            self.inflated.add(part[PREFIX_BYTES:] if not self.received else part)
        self.received += len(part)
        self.left -= len(part)
        if self.held is None:
            return part
        self.held += part
        return self.release() if not self.left or len(self.held) > _MAX_HELD else b""

    def release(self) -> bytes:
        """Return what has been held back, and hold nothing back any more."""
        held, self.held = self.held, None
        return bytes(held or b"")


class Inflated:
    """Counts the bytes that a compressed message decompresses to, and forgets them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._stream = zlib.decompressobj(_ZLIB_OR_GZIP)

    def add(self, data: bytes) -> None:
        """Raises TooLarge, InvalidRequest."""
        try:
            while data:
                self._total += len(self._stream.decompress(data, _INFLATED_AT_A_TIME))
                if self._total > self._limit:
                    raise TooLarge(f"the message decompresses to more than the limit of {self._limit} bytes")
                data = self._stream.unconsumed_tail
                if self._stream.eof and self._stream.unused_data:  # a file of several members
                    data, self._stream = self._stream.unused_data, zlib.decompressobj(_ZLIB_OR_GZIP)
        except zlib.error:
            raise InvalidRequest("the compressed message is neither gzip nor deflate") from None
